-- Jobs of the clock and their runs. thecloud-cron turns due times into rows of cron_runs, one for each by construction, and sends what they
-- say; a run is leased by whoever sends it, so what a killed process had at hand goes on elsewhere.

set local role thecloud_owner;

-- schedule, timezone: as Sources/Schedules reads them. headers_sealed: a JSON object; workers write it and never read it. payload: JSON text.
create table cron_jobs (
    id uuid not null constraint cron_jobs_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    schedule text not null,
    timezone text not null default 'UTC',
    target_url text not null,
    method text not null default 'POST' constraint cron_jobs_method check (method in ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')),
    header_names text[] not null default '{}',
    headers_sealed bytea,
    payload text constraint cron_jobs_payload_size check (octet_length(payload) <= 400000),
    timeout_seconds int not null default 30,
    retries int not null default 0,
    overlap text not null default 'allow' constraint cron_jobs_overlap check (overlap in ('allow', 'forbid')),
    missed text not null default 'skip' constraint cron_jobs_missed check (missed in ('skip', 'run_once')),
    status text not null default 'ACTIVE' constraint cron_jobs_status check (status in ('ACTIVE', 'PAUSED')),
    next_run_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint cron_jobs_name_taken unique (owner_id, name),
    constraint cron_jobs_due check ((status = 'ACTIVE') = (next_run_at is not null)),
    constraint cron_jobs_payload check (method <> 'GET' or payload is null)
);
create index cron_jobs_next on cron_jobs (next_run_at) where next_run_at is not null;
create index cron_jobs_sealed on cron_jobs (id) where headers_sealed is not null;
call protect('cron_jobs');
grant select (id, owner_id, name, schedule, timezone, target_url, method, header_names, payload, timeout_seconds, retries, overlap, missed,
    status, next_run_at, created_at, updated_at), insert, update (name, schedule, timezone, target_url, method, header_names, headers_sealed,
    payload, timeout_seconds, retries, overlap, missed, status, next_run_at, updated_at), delete on cron_jobs to thecloud_api;
grant select, update on cron_jobs to thecloud_cron;

-- One due time of a job (or one wish to run it now) and what became of it. SCHEDULED: waits for its first or next attempt.
-- is_exclusive: the job's overlap is forbidden; such runs of a job are sent strictly one after the other.
create table cron_runs (
    id uuid not null constraint cron_runs_id unique,
    owner_id uuid not null default current_owner(),
    cron_id uuid not null,
    trigger text not null default 'schedule' constraint cron_runs_trigger check (trigger in ('schedule', 'manual')),
    due_at timestamptz not null,
    status text not null default 'SCHEDULED'
        constraint cron_runs_status check (status in ('SCHEDULED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'SKIPPED', 'MISSED')),
    is_exclusive boolean not null default false,
    attempt int not null default 0,
    next_attempt_at timestamptz,
    lease uuid,
    leased_until timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    -- Of the last attempt.
    duration_ms int,
    response_status int,
    response_excerpt text,
    error text,
    created_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint cron_runs_next check ((status = 'SCHEDULED') = (next_attempt_at is not null)),
    constraint cron_runs_lease check ((status = 'RUNNING') = (lease is not null) and (lease is null) = (leased_until is null)),
    constraint cron_runs_end check ((status in ('SCHEDULED', 'RUNNING')) = (finished_at is null)),
    constraint cron_runs_job foreign key (owner_id, cron_id) references cron_jobs (owner_id, id) on delete cascade
);
create unique index cron_runs_once on cron_runs (cron_id, due_at) where trigger = 'schedule';
create index cron_runs_log on cron_runs (owner_id, cron_id, id);
create index cron_runs_unfinished on cron_runs (owner_id, cron_id, id) where status in ('SCHEDULED', 'RUNNING');
create index cron_runs_waiting on cron_runs (next_attempt_at) where status = 'SCHEDULED';
create index cron_runs_running on cron_runs (leased_until) where status = 'RUNNING';
create index cron_runs_age on cron_runs using brin (created_at);
call protect('cron_runs');
grant select, insert (id, cron_id, trigger, due_at, is_exclusive, next_attempt_at) on cron_runs to thecloud_api;
grant select, insert, update, delete on cron_runs to thecloud_cron;

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_cron_quota(in_jobs int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud cron ' || current_owner(), 0));
    if (select count(*) from cron_jobs where owner_id = current_owner()) >= in_jobs then
        raise sqlstate 'TCQTA' using message = format('at most %s cron jobs', in_jobs);
    end if;
end $$;
grant execute on function check_cron_quota(int) to thecloud_api;

-- What events tell of a run that has ended.
create function cron_run_told(in_run cron_runs) returns jsonb language sql stable set search_path = pg_catalog, public
as $$
    select jsonb_build_object('id', in_run.id, 'cron_id', in_run.cron_id,
        'due_at', to_char(in_run.due_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'status', in_run.status,
        'attempt', in_run.attempt,
        'response_status', in_run.response_status, 'error', in_run.error)
$$;
grant execute on function cron_run_told(cron_runs) to thecloud_cron;
reset role;
