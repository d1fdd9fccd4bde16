-- Logins by user name, sessions and their refresh tokens. An access token is no row: it names its session, which is asked with every request.

set local role thecloud_owner;

-- Null for accounts that were made without one. A user name has no "@", so it is never somebody's e-mail address.
alter table users
    add username text,
    add username_key text constraint users_username_taken unique,
    add full_name text,
    add constraint users_username_key_is_folded check (username_key = lower(username)),
    add constraint users_username_is_no_address check (strpos(username, '@') = 0);
grant select (username, username_key, full_name) on users to thecloud_api;

-- role: a copy of the account's, as in api_keys. generation: of the newest refresh token.
create table sessions (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    role text not null default '',
    generation int not null default 1,
    user_agent text,
    address inet,
    created_at timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    expires_at timestamptz not null default now() + interval '7 days',
    primary key (owner_id, id)
);
create index sessions_expiry on sessions (expires_at);
call protect('sessions');
grant select (id, owner_id, role, user_agent, address, created_at, last_used_at, expires_at), delete on sessions to thecloud_api;
grant select (id, owner_id, expires_at), delete on sessions to thecloud_cron;
grant select, insert, update, delete on sessions to thecloud_auth;

-- All refresh tokens that a session ever had: an old one that comes back tells that it was stolen.
create table refresh_tokens (
    token_hash bytea primary key,
    owner_id uuid not null,
    session_id uuid not null,
    generation int not null,
    expires_at timestamptz not null default now() + interval '7 days',
    foreign key (owner_id, session_id) references sessions (owner_id, id) on delete cascade
);
create index refresh_tokens_session on refresh_tokens (owner_id, session_id);
call protect('refresh_tokens');
grant select, insert on refresh_tokens to thecloud_auth;

create trigger role_of_the_account before insert on sessions for each row execute function copy_role();

set local role thecloud_auth;

create or replace function spread_role() returns trigger language plpgsql security definer set search_path = pg_catalog, public
as $$
begin
    update api_keys set role = new.role where owner_id = new.id;
    update sessions set role = new.role where owner_id = new.id;
    return null;
end $$;

-- What authenticate() is for keys, for the session that an access token names.
create function authenticate_session(
    in_session_id uuid, in_account_id uuid, in_permission text, in_roles text[], in_directory_roles text[], in_address inet
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    s record;
begin
    select a.role, a.last_used_at into s from sessions a
    where a.owner_id = in_account_id and a.id = in_session_id and a.expires_at > now();
    if not found then raise sqlstate 'TC401' using message = 'no such session'; end if;
    if in_permission is not null and not s.role = any (in_roles) then
        raise sqlstate 'TC403' using message = 'the permission is missing';
    end if;
    perform set_config('thecloud.owner', in_account_id::text, true), set_config('thecloud.credential', in_session_id::text, true);
    if s.role = any (in_directory_roles) then perform set_config('thecloud.directory', 'on', true); end if;
    if s.last_used_at > now() - interval '1 minute' then return; end if;
    perform from sessions a where a.owner_id = in_account_id and a.id = in_session_id and a.last_used_at <= now() - interval '1 minute'
        for no key update skip locked;
    if found then
        update sessions a set last_used_at = now(), address = in_address where a.owner_id = in_account_id and a.id = in_session_id;
    end if;
end $$;

create function audit_session_denial(in_session_id uuid, in_account_id uuid, in_action text, in_address inet, in_request_id text) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$
    insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, address, request_id, detail)
    select new_id(), owner_id, owner_id, id, 'access.denied', 'route', in_address, in_request_id, jsonb_build_object('route', in_action)
    from sessions where owner_id = in_account_id and id = in_session_id
$$;

-- register_user, with a user name.
create function register_member(
    in_id uuid, in_username text, in_email text, in_full_name text, in_password_hash text, in_address inet, in_request_id text
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    insert into users (id, email, email_key, username, username_key, full_name, name, password_hash)
    values (in_id, in_email, lower(in_email), in_username, lower(in_username), in_full_name, coalesce(in_full_name, in_username),
        in_password_hash);
    insert into audit_log (id, owner_id, actor_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), in_id, in_id, 'user.registered', 'user', in_id, in_address, in_request_id);
end $$;

-- As before, but in_email_key may be a folded user name as well. Both names of one account count as one subject: its id.
create or replace function begin_login(in_email_key text, out user_id uuid, out password_hash text, out refused boolean)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    who text;
    a login_attempts;
begin
    if strpos(in_email_key, '@') > 0 then
        select u.id, u.password_hash into user_id, password_hash from users u where u.email_key = in_email_key;
    else
        select u.id, u.password_hash into user_id, password_hash from users u where u.username_key = in_email_key;
    end if;
    who := coalesce(user_id::text, 'email:' || encode(sha256(convert_to(in_email_key, 'UTF8')), 'hex'));
    insert into login_attempts (subject) values (who) on conflict (subject) do nothing;
    select * into a from login_attempts where subject = who for update;
    refused := coalesce(a.locked_until > now(), false);
    if refused then return; end if;
    if a.locked_until is not null then a.failures := 0; end if;
    update login_attempts set failures = a.failures + 1, last_at = now(),
        locked_until = case when a.failures + 1 >= 5 then now() + interval '15 minutes' end
    where subject = who;
end $$;

-- finish_login, with a session instead of a key.
create function finish_session_login(
    in_user_id uuid, in_verified_hash text, in_new_hash text, in_session_id uuid, in_refresh_hash bytea, in_user_agent text,
    in_address inet, in_request_id text
) returns table (id uuid, username text, email text, full_name text, created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    perform from users u where u.id = in_user_id and u.password_hash = in_verified_hash for no key update;
    if not found then return; end if;
    delete from login_attempts where subject = in_user_id::text;
    if in_new_hash is not null then update users u set password_hash = in_new_hash where u.id = in_user_id; end if;
    insert into sessions (id, owner_id, user_agent, address) values (in_session_id, in_user_id, in_user_agent, in_address);
    insert into refresh_tokens (token_hash, owner_id, session_id, generation) values (in_refresh_hash, in_user_id, in_session_id, 1);
    insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), in_user_id, in_user_id, in_session_id, 'auth.login', 'session', in_session_id, in_address, in_request_id);
    return query select u.id, u.username, u.email, u.full_name, u.created_at from users u where u.id = in_user_id;
end $$;

-- The session of a living refresh token; no row for any other. in_new_hash: a further token is wanted, which lives seven days from now.
-- The token before the newest may come again, because the answer with the newest can be lost. An older one is in the wrong hands, or
-- the newest is: the session ends. That is committed, so it is told by there being no row and not raised.
create function refresh_session(in_hash bytea, in_new_hash bytea, in_address inet, in_request_id text)
returns table (session_id uuid, account_id uuid)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    t record;
    s record;
begin
    select r.owner_id, r.session_id, r.generation, r.expires_at into t from refresh_tokens r where r.token_hash = in_hash;
    if not found then return; end if;
    select a.generation, a.expires_at into s from sessions a where a.owner_id = t.owner_id and a.id = t.session_id for update;
    if not found or s.expires_at <= now() then return; end if;
    if t.generation < s.generation - 1 then
        delete from sessions a where a.owner_id = t.owner_id and a.id = t.session_id;
        insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, resource_id, address, request_id)
        values (new_id(), t.owner_id, null, t.session_id, 'auth.refresh_reused', 'session', t.session_id, in_address, in_request_id);
        return;
    end if;
    if t.expires_at <= now() then return; end if;
    if in_new_hash is not null then
        if t.generation = s.generation then s.generation := s.generation + 1; end if;
        insert into refresh_tokens (token_hash, owner_id, session_id, generation)
        values (in_new_hash, t.owner_id, t.session_id, s.generation);
        update sessions a set generation = s.generation, expires_at = now() + interval '7 days', last_used_at = now(), address = in_address
        where a.owner_id = t.owner_id and a.id = t.session_id;
    else
        update sessions a set last_used_at = now(), address = in_address where a.owner_id = t.owner_id and a.id = t.session_id;
    end if;
    return query select t.session_id, t.owner_id;
end $$;

create or replace function reset_password(in_token_hash bytea, in_password_hash text, in_address inet, in_request_id text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    who uuid;
begin
    delete from password_resets where token_hash = in_token_hash and expires_at > now() returning owner_id into who;
    if who is null then return false; end if;
    delete from password_resets where owner_id = who;
    update users set password_hash = in_password_hash where id = who;
    delete from api_keys where owner_id = who;
    delete from sessions where owner_id = who;
    delete from login_attempts where subject = who::text;
    insert into audit_log (id, owner_id, actor_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), who, who, 'auth.password_reset', 'user', who, in_address, in_request_id);
    return true;
end $$;

grant execute on function
    authenticate_session(uuid, uuid, text, text[], text[], inet), audit_session_denial(uuid, uuid, text, inet, text),
    register_member(uuid, text, text, text, text, inet, text),
    finish_session_login(uuid, text, text, uuid, bytea, text, inet, text), refresh_session(bytea, bytea, inet, text)
to thecloud_api;
reset role;
