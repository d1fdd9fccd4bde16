-- Test runs of people; and what changing one's own password and profile need: proving the password again, and one home for setting one.

set local role thecloud_owner;

-- config, result: any JSON; as text a number such as 1e308 grows to hundreds of digits, so the size is judged here as well.
-- tps: max, min, average, 95p, 99p.
create table runs (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    description text,
    config jsonb not null constraint runs_config_size check (octet_length(config::text) <= 131072),
    status text not null default 'pending'
        constraint runs_status check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
    result jsonb constraint runs_result_size check (octet_length(result::text) <= 131072),
    tps jsonb,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    primary key (owner_id, id)
);
-- One for each order that a list may have; the last serves the filter by status in the usual order, too.
create index runs_created on runs (owner_id, created_at, id);
create index runs_updated on runs (owner_id, updated_at, id);
create index runs_name on runs (owner_id, name, id);
create index runs_status on runs (owner_id, status, created_at, id);
call protect('runs');
grant select, insert, update (name, description, config, status, result, tps, updated_at, started_at, finished_at), delete on runs to thecloud_api;

set local role thecloud_auth;

-- Counts an attempt at a password before any is looked at, so parallel guesses can't outrun the count.
-- in_subject: an account's id, or what stands for an unknown one. True: locked; the attempt must be refused whatever the password is.
create function count_attempt(in_subject text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    a login_attempts;
begin
    insert into login_attempts (subject) values (in_subject) on conflict (subject) do nothing;
    select * into a from login_attempts where subject = in_subject for update;
    if a.locked_until > now() then return true; end if;
    if a.locked_until is not null then a.failures := 0; end if;
    update login_attempts set failures = a.failures + 1, last_at = now(),
        locked_until = case when a.failures + 1 >= 5 then now() + interval '15 minutes' end
    where subject = in_subject;
    return false;
end $$;

-- As before; the counting has its own function now.
create or replace function begin_login(in_email_key text, out user_id uuid, out password_hash text, out refused boolean)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    if strpos(in_email_key, '@') > 0 then
        select u.id, u.password_hash into user_id, password_hash from users u where u.email_key = in_email_key;
    else
        select u.id, u.password_hash into user_id, password_hash from users u where u.username_key = in_email_key;
    end if;
    refused := count_attempt(coalesce(user_id::text, 'email:' || encode(sha256(convert_to(in_email_key, 'UTF8')), 'hex')));
end $$;

-- begin_login for the principal, who is asked for the password once more. It counts and locks like a login.
create function begin_confirmation(out user_id uuid, out password_hash text, out refused boolean)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    select u.id, u.password_hash into user_id, password_hash from users u where u.id = current_owner();
    refused := count_attempt(user_id::text);
end $$;

-- After a right password whose use may yet be refused for another reason, such as a name that is taken.
create function forgive_attempts(in_user_id uuid, in_verified_hash text) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$
    delete from login_attempts where subject = in_user_id::text
        and exists (select from users u where u.id = in_user_id and u.password_hash = in_verified_hash)
$$;

-- A new password: what the old one opened ends, but for one credential (or none); mails to reset it are void, a lock is lifted.
create function set_password(in_user_id uuid, in_password_hash text, in_survivor uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    update users set password_hash = in_password_hash where id = in_user_id;
    delete from password_resets where owner_id = in_user_id;
    delete from sessions where owner_id = in_user_id and id is distinct from in_survivor;
    delete from api_keys where owner_id = in_user_id and kind = 'login' and id is distinct from in_survivor;
    delete from login_attempts where subject = in_user_id::text;
end $$;

-- As before: every key ends, not only those of logins.
create or replace function reset_password(in_token_hash bytea, in_password_hash text, in_address inet, in_request_id text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    who uuid;
begin
    delete from password_resets where token_hash = in_token_hash and expires_at > now() returning owner_id into who;
    if who is null then return false; end if;
    perform set_password(who, in_password_hash, null);
    delete from api_keys where owner_id = who;
    insert into audit_log (id, owner_id, actor_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), who, who, 'auth.password_reset', 'user', who, in_address, in_request_id);
    return true;
end $$;

-- in_verified_hash: what the present password was held against; false when it was changed since. in_survivor: the credential that asks.
create function change_password(
    in_user_id uuid, in_verified_hash text, in_new_hash text, in_survivor uuid, in_address inet, in_request_id text
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    perform from users u where u.id = in_user_id and u.password_hash = in_verified_hash for no key update;
    if not found then return false; end if;
    perform set_password(in_user_id, in_new_hash, in_survivor);
    insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), in_user_id, in_user_id, in_survivor, 'auth.password_changed', 'user', in_user_id, in_address, in_request_id);
    return true;
end $$;

-- Null leaves a member as it is. An e-mail address that differs in more than case needs in_verified_hash; no row without, and none when
-- the password was changed since. Mails to the address before are void then. name follows: the full name, else the user name; the name of
-- an account that had neither stays until a full name is given.
create function change_profile(
    in_user_id uuid, in_username text, in_email text, in_full_name text, in_verified_hash text, in_credential_id uuid, in_address inet,
    in_request_id text
) returns table (id uuid, username text, email text, full_name text, created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    present users;
begin
    select u.* into present from users u where u.id = in_user_id for no key update;
    if not found then return; end if;
    if lower(in_email) <> present.email_key then
        if in_verified_hash is distinct from present.password_hash then return; end if;
        delete from password_resets where owner_id = in_user_id;
    end if;
    insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, resource_id, address, request_id, detail)
    values (new_id(), in_user_id, in_user_id, in_credential_id, 'user.updated', 'user', in_user_id, in_address, in_request_id,
        jsonb_strip_nulls(jsonb_build_object('username', in_username, 'email', in_email, 'full_name', in_full_name,
            'previous_email', case when in_email <> present.email then present.email end)));
    return query update users u set
        username = coalesce(in_username, u.username), username_key = coalesce(lower(in_username), u.username_key),
        email = coalesce(in_email, u.email), email_key = coalesce(lower(in_email), u.email_key),
        full_name = coalesce(in_full_name, u.full_name),
        name = case when in_full_name is not null then in_full_name
            when u.full_name is null and u.name = u.username then coalesce(in_username, u.name) else u.name end
        where u.id = in_user_id returning u.id, u.username, u.email, u.full_name, u.created_at;
end $$;

grant execute on function
    begin_confirmation(), forgive_attempts(uuid, text), change_password(uuid, text, text, uuid, inet, text),
    change_profile(uuid, text, text, text, text, uuid, inet, text)
to thecloud_api;
reset role;
