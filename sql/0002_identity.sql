-- Accounts, API keys, password resets, lock-out; and the functions by which workers touch what they may not read.
-- SQLSTATEs of our own: TC401 no such credential, TC402 expired, TC403 not permitted, TC404 no such object, TC409 state, TCQTA quota.

set local role thecloud_owner;

create table users (
    id uuid primary key,
    email text not null,
    email_key text not null constraint users_email_taken unique,
    name text not null,
    role text not null default 'user' constraint users_role check (role in ('owner', 'admin', 'developer', 'viewer', 'user')),
    password_hash text not null,
    created_at timestamptz not null default now(),
    constraint users_email_key_is_folded check (email_key = lower(email_key))
);
create index users_owners on users (id) where role = 'owner';
alter table users enable row level security;
alter table users force row level security;
create policy of_the_reader on users for select to thecloud_api using (id = current_owner() or sees_directory());
create policy of_the_house on users to thecloud_auth, thecloud_cron, thecloud_owner using (true) with check (true);
grant select (id, email, email_key, name, role, created_at) on users to thecloud_api, thecloud_cron;
grant select, insert, update on users to thecloud_auth;

-- kind: `key` was made by hand, `login` by a login (then it lives idle_seconds after its last use).
-- role: a copy of the account's, kept by triggers, so that authenticating reads one row.
-- permissions and allowed_cidrs: null means no limit of its own. A revoked key is a deleted row; the audit log remembers it.
create table api_keys (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    kind text not null default 'key' constraint api_keys_kind check (kind in ('key', 'login')),
    name text not null,
    role text not null default '',
    prefix text not null,
    key_hash bytea not null constraint api_keys_hash unique,
    permissions text[],
    allowed_cidrs cidr[],
    idle_seconds int,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    primary key (owner_id, id)
);
create index api_keys_expiry on api_keys (expires_at) where expires_at is not null;
create index api_keys_idle on api_keys (last_used_at) where idle_seconds is not null;
create index api_keys_logins on api_keys (owner_id, created_at desc, id desc) where kind = 'login';
call protect('api_keys');
grant select (id, owner_id, kind, name, role, prefix, permissions, allowed_cidrs, idle_seconds, expires_at, created_at, last_used_at),
    insert, update (expires_at), delete on api_keys to thecloud_api;
grant select (id, owner_id, kind, idle_seconds, expires_at, created_at, last_used_at), delete on api_keys to thecloud_cron;
grant select, insert, update, delete on api_keys to thecloud_auth;

create table password_resets (
    token_hash bytea primary key,
    owner_id uuid not null references users (id) on delete cascade,
    expires_at timestamptz not null,
    created_at timestamptz not null default now()
);
create index password_resets_owner on password_resets (owner_id);
call protect('password_resets');
grant insert, delete on password_resets to thecloud_cron;
grant select (owner_id, expires_at) on password_resets to thecloud_cron;
grant select, insert, delete on password_resets to thecloud_auth;

-- Wrong passwords in a row. subject: an account's id, or the digest of an unknown address, so that both answer alike.
create table login_attempts (
    subject text primary key,
    failures int not null default 0,
    locked_until timestamptz,
    last_at timestamptz not null default now()
);
create index login_attempts_age on login_attempts (last_at);
grant select, insert, update, delete on login_attempts to thecloud_auth;
grant select, delete on login_attempts to thecloud_cron;

set local role thecloud_auth;

-- The lock makes whoever stores a credential wait for a change of the role at the same moment, and see it.
create function copy_role() returns trigger language plpgsql security definer set search_path = pg_catalog, public
as $$
begin
    select u.role into new.role from users u where u.id = new.owner_id for share;
    return new;
end $$;

create function spread_role() returns trigger language plpgsql security definer set search_path = pg_catalog, public
as $$
begin
    update api_keys set role = new.role where owner_id = new.id;
    return null;
end $$;
grant execute on function copy_role(), spread_role() to thecloud_owner;

set local role thecloud_owner;
create trigger role_of_the_account before insert on api_keys for each row execute function copy_role();
create trigger role_of_the_credentials after update of role on users for each row execute function spread_role();
set local role thecloud_auth;

-- Finds the key by its hash, checks that it lives, may be used from the address and (with its account's role) covers the permission;
-- then sets what row-level security reads. in_roles: the roles that grant in_permission; null permission: any living key will do.
-- It runs with every request, so the usual case is one lean query: what PostgreSQL spends here is mostly the setting up of expressions.
create function authenticate(in_hash bytea, in_permission text, in_roles text[], in_directory_roles text[], in_address inet) returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    k record;
begin
    perform set_config('thecloud.owner', a.owner_id::text, true), set_config('thecloud.credential', a.id::text, true)
    from api_keys a
    where a.key_hash = in_hash and a.last_used_at > now() - interval '1 minute' and a.allowed_cidrs is null
        and (a.expires_at is null or a.expires_at > now()) and not a.role = any (in_directory_roles)
        and (in_permission is null or a.role = any (in_roles) and (a.permissions is null or in_permission = any (a.permissions)));
    if found then return; end if;

    select a.owner_id, a.id, a.role, a.permissions, a.allowed_cidrs, a.expires_at, a.idle_seconds, a.last_used_at into k
    from api_keys a where a.key_hash = in_hash;
    if not found then raise sqlstate 'TC401' using message = 'no such key'; end if;
    if k.expires_at <= now() or k.last_used_at + k.idle_seconds * interval '1 second' <= now() then
        raise sqlstate 'TC402' using message = 'the key has expired';
    end if;
    if k.allowed_cidrs is not null and not exists (select from unnest(k.allowed_cidrs) c where in_address <<= c) then
        raise sqlstate 'TC403' using message = 'the key may not be used from this address';
    end if;
    if in_permission is not null and not (k.role = any (in_roles) and (k.permissions is null or in_permission = any (k.permissions))) then
        raise sqlstate 'TC403' using message = 'the permission is missing';
    end if;
    perform set_config('thecloud.owner', k.owner_id::text, true), set_config('thecloud.credential', k.id::text, true);
    if k.role = any (in_directory_roles) and (k.permissions is null or 'auth:read' = any (k.permissions)) then
        perform set_config('thecloud.directory', 'on', true);
    end if;
    perform from api_keys a where a.owner_id = k.owner_id and a.id = k.id and a.last_used_at <= now() - interval '1 minute'
        for no key update skip locked;
    if found then
        update api_keys a set last_used_at = now() where a.owner_id = k.owner_id and a.id = k.id;
    end if;
end $$;

-- Writes that a credential was refused for want of a permission; its own transaction, because the refused one is undone.
create function audit_denial(in_hash bytea, in_action text, in_address inet, in_request_id text) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$
    insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, address, request_id, detail)
    select new_id(), owner_id, owner_id, id, 'access.denied', 'route', in_address, in_request_id, jsonb_build_object('route', in_action)
    from api_keys where key_hash = in_hash
$$;

create function register_user(in_id uuid, in_email text, in_name text, in_password_hash text, in_address inet, in_request_id text)
returns table (id uuid, email text, name text, role text, created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    insert into audit_log (id, owner_id, actor_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), in_id, in_id, 'user.registered', 'user', in_id, in_address, in_request_id);
    return query insert into users as u (id, email, email_key, name, password_hash)
        values (in_id, in_email, lower(in_email), in_name, in_password_hash)
        returning u.id, u.email, u.name, u.role, u.created_at;
end $$;

-- Counts an attempt before any password is looked at, so parallel guesses can't outrun the count.
-- refused: locked; then the caller hashes all the same (against a dummy) and refuses. password_hash is null for unknown addresses.
create function begin_login(in_email_key text, out user_id uuid, out password_hash text, out refused boolean)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    who text;
    a login_attempts;
begin
    select u.id, u.password_hash into user_id, password_hash from users u where u.email_key = in_email_key;
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

-- A right password: forgets the failures, keeps the better hash if one is given, stores the key, lets the ten newest login keys live.
-- No row when the password was changed since begin_login.
create function finish_login(
    in_user_id uuid, in_verified_hash text, in_new_hash text, in_key_id uuid, in_key_hash bytea, in_prefix text, in_idle_seconds int,
    in_address inet, in_request_id text
) returns table (id uuid, email text, name text, role text, created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    perform from users u where u.id = in_user_id and u.password_hash = in_verified_hash for no key update;
    if not found then return; end if;
    delete from login_attempts where subject = in_user_id::text;
    if in_new_hash is not null then update users u set password_hash = in_new_hash where u.id = in_user_id; end if;
    insert into api_keys (id, owner_id, kind, name, prefix, key_hash, idle_seconds)
    values (in_key_id, in_user_id, 'login', 'login', in_prefix, in_key_hash, in_idle_seconds);
    delete from api_keys k where k.owner_id = in_user_id and k.kind = 'login' and k.id not in (
        select n.id from api_keys n where n.owner_id = in_user_id and n.kind = 'login' order by n.created_at desc, n.id desc limit 10);
    insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), in_user_id, in_user_id, in_key_id, 'auth.login', 'key', in_key_id, in_address, in_request_id);
    return query select u.id, u.email, u.name, u.role, u.created_at from users u where u.id = in_user_id;
end $$;

create function audit_failed_login(in_user_id uuid, in_address inet, in_request_id text) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$
    insert into audit_log (id, owner_id, actor_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), in_user_id, null, 'auth.login_failed', 'user', in_user_id, in_address, in_request_id)
$$;

-- Wishes a reset mail, if there is such an account; the caller learns nothing. The token is minted when the mail goes out.
create function request_password_reset(in_email_key text, in_address inet, in_request_id text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    who uuid;
begin
    select u.id into who from users u where u.email_key = in_email_key;
    if who is null then return; end if;
    perform enqueue('password_reset_mail', who::text, in_request_id);
    insert into audit_log (id, owner_id, actor_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), who, null, 'auth.reset_requested', 'user', who, in_address, in_request_id);
end $$;

create function is_reset_token(in_token_hash bytea) returns boolean language sql stable security definer set search_path = pg_catalog, public
as $$ select exists (select from password_resets where token_hash = in_token_hash and expires_at > now()) $$;

-- Spends the token: new password, every key and lock-out of the account ends. False for a token that is unknown, spent or expired.
create function reset_password(in_token_hash bytea, in_password_hash text, in_address inet, in_request_id text) returns boolean
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
    delete from login_attempts where subject = who::text;
    insert into audit_log (id, owner_id, actor_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), who, who, 'auth.password_reset', 'user', who, in_address, in_request_id);
    return true;
end $$;

-- Changes an account's role for the principal of this transaction.
create function change_role(in_user_id uuid, in_role text, in_address inet, in_request_id text)
returns table (id uuid, email text, name text, role text, created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    present text;
    actor text;
begin
    perform from users u where u.role = 'owner' or u.id = in_user_id order by u.id for no key update;
    select u.role into present from users u where u.id = in_user_id;
    select u.role into actor from users u where u.id = current_owner();
    if present is null then raise sqlstate 'TC404' using message = 'no such user'; end if;
    if 'owner' in (present, in_role) and present <> in_role and actor <> 'owner' then
        raise sqlstate 'TC403' using message = 'only an owner makes or unmakes owners';
    end if;
    if present = 'owner' and in_role <> 'owner' and (select count(*) from users u where u.role = 'owner') = 1 then
        raise sqlstate 'TC409' using message = 'The last owner can''t be demoted; make another owner first';
    end if;
    insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, resource_id, address, request_id, detail)
    values (new_id(), in_user_id, current_owner(), current_credential(), 'user.role_changed', 'user', in_user_id, in_address, in_request_id,
        jsonb_build_object('from', present, 'to', in_role));
    return query update users u set role = in_role where u.id = in_user_id returning u.id, u.email, u.name, u.role, u.created_at;
end $$;

grant execute on function
    authenticate(bytea, text, text[], text[], inet), audit_denial(bytea, text, inet, text),
    register_user(uuid, text, text, text, inet, text), begin_login(text),
    finish_login(uuid, text, text, uuid, bytea, text, int, inet, text), audit_failed_login(uuid, inet, text),
    request_password_reset(text, inet, text), is_reset_token(bytea), reset_password(bytea, text, inet, text),
    change_role(uuid, text, inet, text)
to thecloud_api;

-- The operator's way to the first owner (scripts/grant-role); nobody else may call it.
create function operator_grant_role(in_email text, in_role text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    who uuid;
begin
    update users set role = in_role where email_key = lower(in_email) returning id into who;
    if who is null then raise sqlstate 'TC404' using message = format('no account has the e-mail address %s', in_email); end if;
    insert into audit_log (id, owner_id, actor_id, action, resource_type, resource_id, request_id, detail)
    values (new_id(), who, null, 'user.role_changed', 'user', who, 'operator', jsonb_build_object('to', in_role));
    return in_role;
end $$;
grant execute on function operator_grant_role(text, text) to thecloud_owner;
reset role;
