-- Queues and their messages. A message is claimed by moving `visible_at` into the future; each receive gives it a new receipt, and only
-- who holds the present one may delete it. Hot tables: their dead rows are cleared away early, so that finding the oldest stays cheap.

set local role thecloud_owner;

-- Times in seconds. awaited_until: somebody may be waiting for a message until then, so whoever makes one visible says so.
create table queues (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    visibility_timeout int not null constraint queues_visibility_timeout check (visibility_timeout between 0 and 43200),
    delay int not null constraint queues_delay check (delay between 0 and 900),
    retention int not null constraint queues_retention check (retention between 60 and 1209600),
    max_receive_count int constraint queues_max_receive_count check (max_receive_count between 1 and 1000),
    dead_letter_queue_id uuid,
    awaited_until timestamptz not null default '-infinity',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    -- In this order, so that only the primary key is good for finding one of an owner's queues.
    constraint queues_name_taken unique (name, owner_id),
    constraint queues_not_its_own check (dead_letter_queue_id <> id),
    constraint queues_dead_letter foreign key (owner_id, dead_letter_queue_id) references queues (owner_id, id)
) with (fillfactor = 50);
create index queues_dead_letters on queues (owner_id, dead_letter_queue_id) where dead_letter_queue_id is not null;
call protect('queues');
grant select, insert,
    update (name, visibility_timeout, delay, retention, max_receive_count, dead_letter_queue_id, awaited_until, updated_at), delete
    on queues to thecloud_api;
grant select on queues to thecloud_cron;

-- receipt: of the last receive; null before the first one and after the move to another queue. is_last: it has been handed out as often
-- as its queue allows. arrived_at: when it was moved here; its retention counts from then. attributes: a JSON object as text.
-- Plans are generic and owners differ: what an average owner or queue holds says nothing about this one. So no index begins with owner_id,
-- and who looks for an id says `(queue_id = …) is true`, which no index answers: each statement has one index that it can go by.
create table queue_messages (
    id uuid not null,
    owner_id uuid not null default current_owner(),
    queue_id uuid not null,
    receive_count int not null default 0,
    is_last boolean not null default false,
    receipt uuid,
    visible_at timestamptz not null default now(),
    sent_at timestamptz not null default now(),
    arrived_at timestamptz,
    first_received_at timestamptz,
    attributes text not null default '{}',
    body text not null,
    primary key (id, owner_id),
    constraint queue_messages_queue foreign key (owner_id, queue_id) references queues (owner_id, id) on delete cascade
) with (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.2
);
create index queue_messages_due on queue_messages (queue_id, visible_at);
create index queue_messages_last on queue_messages (visible_at) where is_last;
call protect('queue_messages');
grant select, insert, delete,
    update (queue_id, receive_count, is_last, receipt, visible_at, arrived_at, first_received_at) on queue_messages to thecloud_api;
grant select, insert, update, delete on queue_messages to thecloud_cron;

-- What was sent under a name of the sender's choice; it outlives the message. message_id is that of the first one.
create table queue_dedup (
    owner_id uuid not null default current_owner(),
    queue_id uuid not null,
    dedup_id text not null,
    message_id uuid not null,
    sent_at timestamptz not null default now(),
    primary key (owner_id, queue_id, dedup_id),
    constraint queue_dedup_queue foreign key (owner_id, queue_id) references queues (owner_id, id) on delete cascade
);
create index queue_dedup_age on queue_dedup using brin (sent_at);
call protect('queue_dedup');
grant select, insert, update (message_id, sent_at) on queue_dedup to thecloud_api;
grant select, delete on queue_dedup to thecloud_cron;

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_queue_quota(in_queues int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud queues ' || current_owner(), 0));
    if (select count(*) from queues where owner_id = current_owner()) >= in_queues then
        raise sqlstate 'TCQTA' using message = format('at most %s queues', in_queues);
    end if;
end $$;

-- Hands out the oldest messages that are visible: a row for each, or one without a message when there is none. Of those it meets, the
-- expired are deleted and the spent moved to the dead-letter queue; it goes on behind them, for 10000 messages at most.
-- in_is_waiting: the caller is going to wait, so senders are asked to tell. next_seconds: until the next one may become visible.
create function receive_messages(in_queue_id uuid, in_count int, in_is_waiting boolean)
returns table (
    id uuid, body text, attributes text, receipt uuid, receive_count int, sent_at timestamptz, first_received_at timestamptz,
    visible_until timestamptz, next_seconds float8, owner uuid
)
language plpgsql volatile set search_path = pg_catalog, public
as $$
#variable_conflict use_column
declare
    q queues;
    dead uuid;
    chosen uuid[];
    expired uuid[];
    spent uuid[];
begin
    select * into q from queues where owner_id = current_owner() and id = in_queue_id;
    if not found then raise sqlstate 'TC404' using message = 'no such queue'; end if;
    owner := q.owner_id;
    dead := case when q.max_receive_count is not null then q.dead_letter_queue_id end;
    for round in 0..20 loop
        select array_agg(d.id order by d.visible_at, d.id) filter (where not d.is_expired and not d.is_spent),
            array_agg(d.id) filter (where d.is_expired), array_agg(d.id) filter (where d.is_spent and not d.is_expired)
        into chosen, expired, spent
        from (
            select m.id, m.visible_at, coalesce(m.arrived_at, m.sent_at) <= now() - q.retention * interval '1 second' as is_expired,
                dead is not null and m.receive_count >= q.max_receive_count as is_spent
            from queue_messages m where m.queue_id = in_queue_id and m.visible_at <= now()
            order by m.visible_at limit case round when 0 then in_count else 500 end for update skip locked
        ) d;
        if expired is not null then
            delete from queue_messages m where m.id = any (expired);
        end if;
        if spent is not null then
            perform bury_messages(q.owner_id, dead, spent);
        end if;
        exit when chosen is not null or expired is null and spent is null;
        if round = 20 then next_seconds := 0; end if;
    end loop;
    if chosen is not null then
        for id, body, attributes, receipt, receive_count, sent_at, first_received_at, visible_until in
            with taken as (
                update queue_messages m set receive_count = m.receive_count + 1, receipt = gen_random_uuid(),
                    visible_at = now() + q.visibility_timeout * interval '1 second', first_received_at = coalesce(m.first_received_at, now()),
                    is_last = dead is not null and m.receive_count + 1 >= q.max_receive_count
                where m.id = any (chosen[1:in_count])
                returning m.id, m.body, m.attributes, m.receipt, m.receive_count, m.sent_at, m.first_received_at, m.visible_at
            )
            select * from taken t order by t.id
        loop
            return next;
        end loop;
        return;
    end if;
    if in_is_waiting then
        update queues set awaited_until = now() + interval '60 seconds'
        where owner_id = q.owner_id and id = in_queue_id and awaited_until < now() + interval '30 seconds';
        next_seconds := coalesce(next_seconds, (
            select extract(epoch from m.visible_at - now())::float8 from queue_messages m
            where m.queue_id = in_queue_id and m.visible_at > now() order by m.visible_at limit 1));
    end if;
    return next;
end $$;

-- Moves messages to a dead-letter queue, where they begin anew: same id, same body, never received, visible at once.
create function bury_messages(in_owner_id uuid, in_dead_letter_queue_id uuid, in_ids uuid[]) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    update queue_messages m set queue_id = in_dead_letter_queue_id, receive_count = 0, is_last = false, receipt = null, visible_at = now(),
        arrived_at = now(), first_received_at = null
    where m.owner_id = in_owner_id and m.id = any (in_ids);
    -- Rare enough to be told inside the transaction.
    perform pg_notify('answers', in_dead_letter_queue_id::text)
    from queues where owner_id = in_owner_id and id = in_dead_letter_queue_id and awaited_until > now();
end $$;

-- For thecloud-cron: moves what its queue has handed out often enough and nobody has deleted, so that it is not only noticed by the
-- next receiver. Looks at in_limit messages at most; how many it looked at.
create function bury_spent_messages(in_limit int) returns int
language plpgsql volatile set search_path = pg_catalog, public
as $$
declare
    s record;
    seen int := 0;
begin
    for s in
        select d.owner_id, d.queue_id, q.dead_letter_queue_id as dead, array_agg(d.id) filter (where d.receive_count >= q.max_receive_count) as spent,
            array_agg(d.id) filter (where not coalesce(d.receive_count >= q.max_receive_count and q.dead_letter_queue_id is not null, false)) as spared,
            count(*)::int as count
        from (
            select m.owner_id, m.queue_id, m.id, m.receive_count from queue_messages m where m.is_last and m.visible_at <= now()
            order by m.visible_at limit in_limit for update skip locked
        ) d join queues q on q.owner_id = d.owner_id and q.id = d.queue_id
        group by d.owner_id, d.queue_id, q.dead_letter_queue_id
    loop
        seen := seen + s.count;
        -- The queue's settings were changed since.
        if s.spared is not null then
            update queue_messages m set is_last = false where m.owner_id = s.owner_id and m.id = any (s.spared);
        end if;
        if s.spent is not null and s.dead is not null then
            perform bury_messages(s.owner_id, s.dead, s.spent);
        end if;
    end loop;
    return seen;
end $$;

-- Stores messages, all or none; a row for each in the order given. Of those with one dedup_id within 5 minutes only the first is stored,
-- and the others are told its id. No row at all: there is no such queue. is_awaited: somebody waits for messages here.
create function send_messages(in_queue_id uuid, in_ids uuid[], in_bodies text[], in_delays int[], in_dedup_ids text[], in_attributes text[])
returns table (id uuid, sent_at timestamptz, is_deduplicated boolean, is_awaited boolean)
language plpgsql volatile set search_path = pg_catalog, public
as $$
#variable_conflict use_column
begin
    return query with q as materialized (
        select * from queues where owner_id = current_owner() and id = in_queue_id
    ), wanted as materialized (
        select * from unnest(in_ids, in_bodies, in_delays, in_dedup_ids, in_attributes) with ordinality
            as w (id, body, delay, dedup_id, attributes, position)
    ), named as (
        insert into queue_dedup as d (queue_id, dedup_id, message_id)
        select q.id, f.dedup_id, f.id from q cross join (
            select distinct on (dedup_id) dedup_id, id from wanted where dedup_id is not null order by dedup_id, position) f
        on conflict on constraint queue_dedup_pkey do update set
            message_id = case when d.sent_at <= now() - interval '5 minutes' then excluded.message_id else d.message_id end,
            sent_at = case when d.sent_at <= now() - interval '5 minutes' then excluded.sent_at else d.sent_at end
        returning d.dedup_id, d.message_id, d.sent_at
    ), stored as (
        insert into queue_messages (id, queue_id, visible_at, attributes, body)
        select w.id, q.id, now() + coalesce(w.delay, q.delay) * interval '1 second', coalesce(w.attributes, '{}'), w.body
        from q cross join wanted w left join named n on n.dedup_id = w.dedup_id where n.message_id is null or n.message_id = w.id
    )
    select coalesce(n.message_id, w.id), coalesce(n.sent_at, now()), coalesce(n.message_id <> w.id, false), q.awaited_until > now()
    from q cross join wanted w left join named n on n.dedup_id = w.dedup_id order by w.position;
end $$;

grant execute on function check_queue_quota(int), receive_messages(uuid, int, boolean),
    send_messages(uuid, uuid[], text[], int[], text[], text[]) to thecloud_api;
grant execute on function bury_messages(uuid, uuid, uuid[]) to thecloud_api, thecloud_cron;
grant execute on function bury_spent_messages(int) to thecloud_cron;
reset role;
