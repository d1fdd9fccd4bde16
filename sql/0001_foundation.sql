-- Roles, the installation's id, the functions that row-level security reads, the jobs table and the audit log.
-- Run by a role that may create roles (no superuser needed). All objects belong to thecloud_owner, security-definer functions to thecloud_auth.

do $$
declare wanted text;
begin
    foreach wanted in array array['thecloud_owner', 'thecloud_auth', 'thecloud_api', 'thecloud_cron'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            execute format('create role %I %s', wanted, case when wanted in ('thecloud_api', 'thecloud_cron') then 'login' else 'nologin' end);
        end if;
    end loop;
    -- Since version 16 whoever creates a role is its member without the right to act as it.
    foreach wanted in array array['thecloud_owner', 'thecloud_auth'] loop
        if not pg_has_role(wanted, case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end) then
            execute format('grant %I to %I', wanted, current_user);
        end if;
    end loop;
    if not pg_has_role('thecloud_owner', 'thecloud_auth', 'member') then grant thecloud_auth to thecloud_owner; end if;
end $$;

alter role thecloud_api set timezone = 'UTC';
alter role thecloud_api set datestyle = 'ISO';
alter role thecloud_api set statement_timeout = '10s';
alter role thecloud_api set lock_timeout = '5s';
alter role thecloud_api set idle_in_transaction_session_timeout = '60s';
-- Every statement of the workers goes by an index whatever its parameters are: planning once is enough.
alter role thecloud_api set plan_cache_mode = force_generic_plan;
alter role thecloud_api set jit = off;
alter role thecloud_cron set timezone = 'UTC';
alter role thecloud_cron set datestyle = 'ISO';
alter role thecloud_cron set statement_timeout = '60s';
alter role thecloud_cron set idle_in_transaction_session_timeout = '5min';

grant usage, create on schema public to thecloud_owner, thecloud_auth;
grant usage on schema public to thecloud_api, thecloud_cron;

set local role thecloud_owner;
alter default privileges revoke execute on functions from public;

create table installation (
    id uuid primary key default gen_random_uuid(),
    created_at timestamptz not null default now()
);
create unique index installation_is_one on installation ((true));
insert into installation default values;
grant select on installation to thecloud_api, thecloud_cron, thecloud_auth;

-- Who the transaction acts for; set by authenticate(). Null without a principal, so every policy then hides every row.
create function current_owner() returns uuid language sql stable parallel safe
as $$ select nullif(current_setting('thecloud.owner', true), '')::uuid $$;

-- The credential that the principal came with.
create function current_credential() returns uuid language sql stable parallel safe
as $$ select nullif(current_setting('thecloud.credential', true), '')::uuid $$;

-- Whether the principal may see all accounts and the whole audit log (auth:read).
create function sees_directory() returns boolean language sql stable parallel safe
as $$ select coalesce(nullif(current_setting('thecloud.directory', true), '')::boolean, false) $$;

grant execute on function current_owner(), current_credential(), sees_directory() to thecloud_api, thecloud_cron, thecloud_auth;

-- Row-level security for a table with an owner_id: enabled, forced, one policy for the workers and one for those who must see all.
create procedure protect(owned regclass) language plpgsql
as $$
begin
    execute format('alter table %s enable row level security', owned);
    execute format('alter table %s force row level security', owned);
    execute format('create policy of_the_owner on %s to thecloud_api using (owner_id = current_owner()) with check (owner_id = current_owner())', owned);
    execute format('create policy of_the_house on %s to thecloud_auth, thecloud_cron, thecloud_owner using (true) with check (true)', owned);
end $$;

-- What is to be done in the background: one row for each kind and subject, so wishes for one thing coalesce and never run side by side.
-- Payloads don't exist: a job says what to look at, the tables say what to do.
create table jobs (
    kind text not null,
    subject text not null,
    wanted bigint not null default 1,
    run_at timestamptz not null default now(),
    attempts int not null default 0,
    leased_until timestamptz,
    lease uuid,
    -- Of the request that wished it last, for the log.
    request_id text,
    last_error text,
    dead_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (kind, subject)
);
create index jobs_due on jobs (kind, run_at) where dead_at is null;
create index jobs_leased on jobs (lease) where lease is not null;
grant select, insert, update, delete on jobs to thecloud_cron;
grant select, insert, update on jobs to thecloud_auth;

-- What happened to whom, by whom, from where. owner_id: whose account it concerns.
create table audit_log (
    id uuid primary key,
    owner_id uuid not null default current_owner(),
    actor_id uuid default current_owner(),
    credential_id uuid default current_credential(),
    action text not null,
    resource_type text not null,
    resource_id uuid,
    address inet,
    request_id text not null,
    detail jsonb not null default '{}',
    created_at timestamptz not null default now()
);
create unique index audit_log_owner on audit_log (owner_id, id);
create index audit_log_age on audit_log using brin (created_at);
alter table audit_log enable row level security;
alter table audit_log force row level security;
create policy of_the_reader on audit_log for select to thecloud_api using (owner_id = current_owner() or sees_directory());
create policy of_the_owner on audit_log for insert to thecloud_api with check (owner_id = current_owner());
create policy of_the_house on audit_log to thecloud_auth, thecloud_cron, thecloud_owner using (true) with check (true);
grant select, insert on audit_log to thecloud_api;
grant select, insert on audit_log to thecloud_auth;
grant select, insert, delete on audit_log to thecloud_cron;

-- Stored answers for Idempotency-Key; the request as HMAC, the answer sealed.
create table idempotency_keys (
    owner_id uuid not null default current_owner(),
    credential_id uuid not null default current_credential(),
    route text not null,
    key text not null,
    request_mac bytea not null,
    answer bytea not null,
    created_at timestamptz not null default now(),
    primary key (credential_id, route, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);
call protect('idempotency_keys');
grant select, insert, update (request_mac, answer, created_at) on idempotency_keys to thecloud_api;
grant select, delete on idempotency_keys to thecloud_cron;

set local role thecloud_auth;
alter default privileges revoke execute on functions from public;

-- UUID version 7 (RFC 9562 §5.7) for rows that are born in SQL.
create function new_id() returns uuid language sql volatile security definer set search_path = pg_catalog, public
as $$
    select (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(hex, 2, 3)
        || to_hex(8 + (('x' || substr(hex, 5, 1))::bit(4)::int & 3)) || substr(hex, 6, 15))::uuid
    from replace(gen_random_uuid()::text, '-', '') hex
$$;

-- Wishes a job; an earlier one for the same subject is made due at once and tried afresh, a running one will run again.
create function enqueue(in_kind text, in_subject text, in_request_id text) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$
    insert into jobs (kind, subject, request_id) values (in_kind, in_subject, in_request_id)
    on conflict (kind, subject) do update set wanted = jobs.wanted + 1, run_at = least(jobs.run_at, now()), attempts = 0, dead_at = null,
        request_id = coalesce(excluded.request_id, jobs.request_id)
$$;

grant execute on function new_id(), enqueue(text, text, text) to thecloud_api, thecloud_cron;
reset role;
