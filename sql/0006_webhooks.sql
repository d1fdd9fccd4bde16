-- Webhooks (Standard Webhooks 1.0) and what was sent to them. fan_out_webhooks() turns published events into deliveries; the job
-- `webhook_delivery` sends each by its schedule, which stands in the delivery's row: jobs come and go, attempts are counted here.

set local role thecloud_owner;

-- events: types such as `run.completed`, kinds as `run.*`, or none at all for every event.
-- secret_sealed: what messages are signed with; workers write it and never read it.
create table webhooks (
    id uuid not null constraint webhooks_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text,
    url text not null,
    events text[] not null default '{}',
    secret_sealed bytea not null,
    is_active boolean not null default true,
    -- Why we stopped sending; null when its owner did.
    disabled_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id)
);
call protect('webhooks');
grant select (id, owner_id, name, url, events, is_active, disabled_reason, created_at, updated_at), insert,
    update (name, url, events, secret_sealed, is_active, disabled_reason, updated_at), delete on webhooks to thecloud_api;
grant select, update on webhooks to thecloud_cron;

-- One message for one webhook; id is its `webhook-id`, the same at every attempt and replay. body: frozen when the row is made.
-- event_id refers to no row: deliveries outlive events, and a test's event never was one.
create table webhook_deliveries (
    id uuid not null constraint webhook_deliveries_id unique,
    owner_id uuid not null default current_owner(),
    webhook_id uuid not null,
    event_id uuid not null,
    event_type text not null,
    body text not null,
    status text not null default 'PENDING' constraint webhook_deliveries_status check (status in ('PENDING', 'DELIVERED', 'FAILED')),
    -- Of the present round; a replay begins another.
    attempts int not null default 0,
    next_attempt_at timestamptz default now(),
    -- Of the last attempt.
    response_status int,
    response_excerpt text,
    error text,
    duration_ms int,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    primary key (owner_id, id),
    constraint webhook_deliveries_once unique (owner_id, webhook_id, event_id),
    constraint webhook_deliveries_end
        check ((status = 'PENDING') = (next_attempt_at is not null) and (status = 'PENDING') = (finished_at is null)),
    constraint webhook_deliveries_webhook foreign key (owner_id, webhook_id) references webhooks (owner_id, id) on delete cascade
);
create index webhook_deliveries_log on webhook_deliveries (owner_id, webhook_id, id);
create index webhook_deliveries_pending on webhook_deliveries (owner_id, webhook_id) where status = 'PENDING';
create index webhook_deliveries_age on webhook_deliveries using brin (created_at);
call protect('webhook_deliveries');
grant select, insert, update (status, attempts, next_attempt_at, finished_at) on webhook_deliveries to thecloud_api;
grant select, insert, update, delete on webhook_deliveries to thecloud_cron;

-- Whoever publishes events names them by id alone.
create index events_id on events (id);

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_webhook_quota(in_webhooks int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud webhooks ' || current_owner(), 0));
    if (select count(*) from webhooks where owner_id = current_owner()) >= in_webhooks then
        raise sqlstate 'TCQTA' using message = format('at most %s webhooks', in_webhooks);
    end if;
end $$;
grant execute on function check_webhook_quota(int) to thecloud_api;

-- jsonb as text without the blanks between its tokens.
create function compact_json(in_value jsonb) returns text language sql immutable parallel safe
as $$ select regexp_replace(in_value::text, '("(?:[^"\\]|\\.)*")|\s+', '\1', 'g') $$;
grant execute on function compact_json(jsonb) to thecloud_cron;

-- Makes, for each of these events, one delivery and its job for every active webhook of its owner that wants it; how many were made.
-- Called in the transaction that marks the events as published, any number of times: an event reaches a webhook once.
-- Whoever calls it wakes the listeners of `jobs` afterwards.
create function fan_out_webhooks(in_event_ids uuid[]) returns int
language sql volatile set search_path = pg_catalog, public
as $$
    with made as (
        insert into webhook_deliveries (id, owner_id, webhook_id, event_id, event_type, body)
        select new_id(), w.owner_id, w.id, e.id, e.type,
            format('{"id":"%s","type":%s,"timestamp":"%s","data":%s}', e.id, to_json(e.type),
                to_char(e.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), compact_json(e.data))
        from events e join webhooks w on w.owner_id = e.owner_id
        where e.id = any (in_event_ids) and w.is_active
            and (w.events = '{}' or w.events && array[e.type, split_part(e.type, '.', 1) || '.*'])
        -- One that is being deleted at this moment is waited for and then is not there.
        for key share of w
        on conflict do nothing
        returning id
    ), wished as (
        select enqueue('webhook_delivery', id::text, null) from made
    )
    select count(*)::int from wished
$$;
grant execute on function fan_out_webhooks(uuid[]) to thecloud_cron;
reset role;
