-- Functions, their code, and what became of each invocation. Who runs one (a worker, or thecloud-cron for asynchronous ones) is a "home": a process
-- that has sandboxes and says every few seconds that it lives.

set local role thecloud_owner;

-- handler: folder/file.name. env_sealed: as of instances. version: changes with all that a sandbox is made of. unpacked_size, file_count: of the code.
create table functions (
    id uuid not null constraint functions_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    runtime text not null,
    handler text not null,
    timeout_seconds int not null,
    memory_mb int not null,
    env_names text[] not null default '{}',
    env_sealed bytea,
    version uuid not null constraint functions_version unique,
    code_sha256 text not null,
    code_size int not null,
    unpacked_size int not null,
    file_count int not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint functions_name_taken unique (owner_id, name)
);
create index functions_sealed on functions (id) where env_sealed is not null;
call protect('functions');
grant select (id, owner_id, name, runtime, handler, timeout_seconds, memory_mb, env_names, version, code_sha256, code_size, unpacked_size,
    file_count, created_at, updated_at), insert, update (name, runtime, handler, timeout_seconds, memory_mb, env_names, env_sealed, version,
    code_sha256, code_size, unpacked_size, file_count, updated_at), delete on functions to thecloud_api;
grant select, update on functions to thecloud_cron;
grant select on functions to thecloud_auth;

-- The zip files, apart, so that lists stay light.
create table function_code (
    owner_id uuid not null default current_owner(),
    function_id uuid not null,
    code bytea not null,
    primary key (owner_id, function_id),
    foreign key (owner_id, function_id) references functions (owner_id, id) on delete cascade
);
-- A zip file does not get smaller.
alter table function_code alter column code set storage external;
call protect('function_code');
grant select, insert, update (code) on function_code to thecloud_api;
grant select on function_code to thecloud_cron;

-- PENDING: waits for a place, or for its next attempt. payload, result: JSON text; the payload is kept until an asynchronous one has ended.
-- home: who runs it, or waits with it. leased_until: when it is lost, whatever its home says. attempt: those that have begun.
create table invocations (
    id uuid not null constraint invocations_id unique,
    owner_id uuid not null default current_owner(),
    function_id uuid not null,
    is_async boolean not null,
    status text not null default 'PENDING'
        constraint invocations_status check (status in ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'TIMED_OUT')),
    payload text,
    home uuid,
    leased_until timestamptz,
    attempt int not null default 0,
    failures int not null default 0,
    result text,
    error text,
    logs text not null default '',
    is_log_truncated boolean not null default false,
    is_cold_start boolean,
    duration_ms int,
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint invocations_end check ((status in ('PENDING', 'RUNNING')) = (finished_at is null)),
    constraint invocations_lease check (status <> 'RUNNING' or home is not null and leased_until is not null),
    constraint invocations_function foreign key (owner_id, function_id) references functions (owner_id, id) on delete cascade
);
create index invocations_log on invocations (owner_id, function_id, id);
create index invocations_running on invocations (owner_id) where status = 'RUNNING';
create index invocations_waiting on invocations (owner_id, id) where status = 'PENDING' and not is_async;
create index invocations_queued on invocations (owner_id, id) where status = 'PENDING' and is_async;
create index invocations_leased on invocations (leased_until) where status in ('PENDING', 'RUNNING') and not is_async;
create index invocations_age on invocations using brin (created_at);
call protect('invocations');
grant select, insert (id, function_id, is_async, payload, home, leased_until) on invocations to thecloud_api;
grant select, update, delete on invocations to thecloud_cron;
grant select, update on invocations to thecloud_auth;
grant insert on events to thecloud_auth;

-- Processes that have sandboxes. One that is silent is dead (Sources/Jobs/SandboxKeeping.swift).
create table sandbox_homes (
    id uuid primary key,
    seen_at timestamptz not null default now()
);
grant select, insert, update, delete on sandbox_homes to thecloud_auth;
grant select, delete on sandbox_homes to thecloud_cron;

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_function_quota(in_functions int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud functions ' || current_owner(), 0));
    if (select count(*) from functions where owner_id = current_owner()) >= in_functions then
        raise sqlstate 'TCQTA' using message = format('at most %s functions', in_functions);
    end if;
end $$;

-- Refuses (TCQTA) a further asynchronous invocation when so many wait; those that come at the same moment may overshoot.
create function check_queued_invocations(in_limit int) returns void
language plpgsql stable set search_path = pg_catalog, public
as $$
begin
    if (select count(*) from (
            select from invocations where owner_id = current_owner() and status = 'PENDING' and is_async limit in_limit) queued) >= in_limit then
        raise sqlstate 'TCQTA' using message = format('at most %s invocations that wait', in_limit);
    end if;
end $$;
grant execute on function check_function_quota(int), check_queued_invocations(int) to thecloud_api;

set local role thecloud_auth;

-- Begins an invocation (RUNNING), if it is its turn: in_limit run at once, asynchronous ones in half of these places at most.
-- No row when it has ended or never was. ahead: how many come first; 0 when it was begun, and then the rest says what to run.
-- Also begins anew what a home that is gone had begun.
create function start_invocation(in_id uuid, in_home uuid, in_limit int)
returns table (ahead int, owner_id uuid, function_id uuid, version uuid, runtime text, handler text, memory_mb int, timeout_seconds int,
    unpacked_size int, file_count int, env_sealed bytea, payload text, attempt int, failures int)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
#variable_conflict use_column
declare
    its_owner uuid;
    it invocations;
    running record;
    first_in_line int;
begin
    select i.owner_id into its_owner from invocations i where i.id = in_id and i.owner_id = coalesce(current_owner(), i.owner_id);
    if its_owner is null then return; end if;
    perform pg_advisory_xact_lock(hashtextextended('thecloud invocations ' || its_owner, 0));
    select i.* into it from invocations i where i.owner_id = its_owner and i.id = in_id for update;
    if it.id is null or it.finished_at is not null then return; end if;
    select count(*) as total, count(*) filter (where i.is_async) as async into running
    from invocations i where i.owner_id = its_owner and i.status = 'RUNNING' and i.leased_until > now() and i.id <> in_id;
    select count(*) into first_in_line
    from invocations i where i.owner_id = its_owner and i.status = 'PENDING' and not i.is_async and i.id < in_id and i.leased_until > now();
    if running.total + first_in_line >= in_limit or it.is_async and running.async >= greatest(in_limit / 2, 1) then
        return query select (greatest(running.total + first_in_line - in_limit, 0) + 1)::int, its_owner, it.function_id, null::uuid, null::text,
            null::text, null::int, null::int, null::int, null::int, null::bytea, null::text, it.attempt, it.failures;
        return;
    end if;
    update invocations i set status = 'RUNNING', home = in_home, started_at = now(), attempt = i.attempt + 1,
        leased_until = now() + (f.timeout_seconds + 300) * interval '1 second'
    from functions f where i.owner_id = its_owner and i.id = in_id and f.owner_id = i.owner_id and f.id = i.function_id;
    return query
        select 0, f.owner_id, f.id, f.version, f.runtime, f.handler, f.memory_mb, f.timeout_seconds, f.unpacked_size, f.file_count,
            f.env_sealed, it.payload, it.attempt + 1, it.failures
        from functions f where f.owner_id = its_owner and f.id = it.function_id;
end $$;

-- Writes down how an invocation that this home runs, or waits with, has ended; in_is_final false has an asynchronous one wait for another attempt.
-- Tells those who listen, lets the next asynchronous one try, and returns the invocations whose waiting requests should look again.
create function finish_invocation(in_id uuid, in_home uuid, in_status text, in_result text, in_error text, in_logs text, in_is_truncated boolean,
    in_is_cold boolean, in_milliseconds int, in_is_final boolean, in_event uuid, in_limit int) returns setof uuid
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    it invocations;
begin
    update invocations i set status = case when in_is_final then in_status else 'PENDING' end, result = in_result, error = in_error,
        logs = in_logs, is_log_truncated = in_is_truncated, is_cold_start = in_is_cold, duration_ms = in_milliseconds,
        failures = i.failures + case when in_status = 'SUCCEEDED' then 0 else 1 end,
        home = null, leased_until = null, payload = case when in_is_final then null else i.payload end,
        finished_at = case when in_is_final then now() end
    where i.id = in_id and i.home = in_home and i.status in ('PENDING', 'RUNNING') returning i.* into it;
    if it.id is null then return; end if;
    if in_is_final then
        insert into events (id, owner_id, type, resource_id, data)
        values (in_event, it.owner_id, 'function.' || lower(it.status), it.function_id, invocation_told(it));
    end if;
    update jobs j set run_at = now()
    where j.kind = 'invocation' and j.lease is null and j.run_at > now() and j.last_error is null and j.subject = (
        select i.id::text from invocations i
        where i.owner_id = it.owner_id and i.status = 'PENDING' and i.is_async and i.failures = 0 and i.id <> it.id order by i.id limit 1);
    return query
        select i.id from invocations i where i.owner_id = it.owner_id and i.status = 'PENDING' and not i.is_async order by i.id limit in_limit;
end $$;

-- What events tell of an invocation that has ended; neither its result nor its log.
create function invocation_told(it invocations) returns jsonb language sql stable security definer set search_path = pg_catalog, public
as $$
    select jsonb_build_object('id', it.id, 'function_id', it.function_id, 'status', it.status, 'async', it.is_async, 'attempt', it.attempt,
        'duration_ms', it.duration_ms, 'error', it.error)
$$;

-- Says that a home lives, and returns those versions of functions of which it need keep no sandbox any more.
create function keep_sandbox_home(in_home uuid, in_versions uuid[]) returns setof uuid
language sql volatile security definer set search_path = pg_catalog, public
as $$
    insert into sandbox_homes (id) values (in_home) on conflict (id) do update set seen_at = now();
    select wanted from unnest(in_versions) wanted where not exists (select from functions f where f.version = wanted)
$$;

create function leave_sandbox_home(in_home uuid) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$ delete from sandbox_homes where id = in_home $$;

grant execute on function start_invocation(uuid, uuid, int),
    finish_invocation(uuid, uuid, text, text, text, text, boolean, boolean, int, boolean, uuid, int), keep_sandbox_home(uuid, uuid[]),
    leave_sandbox_home(uuid) to thecloud_api, thecloud_cron;
grant execute on function invocation_told(invocations) to thecloud_cron;
reset role;
