-- A receive begins where the queue's front is, not at its oldest entry: the index keeps an entry of each message that was received or deleted
-- until a vacuum may remove it, and that may be long, with a backup going on for instance. Every receive would walk over all of them.

set local role thecloud_owner;

-- front: no message that is there becomes visible earlier. front_at: when that was found out. front_checked_at: when it was last looked for
-- messages that were stored by a transaction which had begun long before it ended.
alter table queues
    add front timestamptz not null default '-infinity',
    add front_at timestamptz not null default '-infinity',
    add front_checked_at timestamptz not null default '-infinity';
grant update (front, front_at, front_checked_at) on queues to thecloud_api;

-- Moves the front up to the oldest message that is there, but not into the last second: whoever stores a message now gives it the time at which
-- its transaction began. A transaction lives for 70 s at most (statement and idle time-outs of the roles), so what came late is found by looking
-- two minutes back, every ten seconds. One receiver does it, the others go on.
create function move_queue_front(q queues, in_reached timestamptz) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
declare
    is_check constant boolean := q.front_checked_at < now() - interval '10 seconds';
begin
    perform from queues where owner_id = q.owner_id and id = q.id and front_at = q.front_at for no key update skip locked;
    if found then
        update queues set front_at = now(), front_checked_at = case when is_check then now() else front_checked_at end,
            front = least(now() - interval '1 second', (
                select m.visible_at from queue_messages m
                where m.queue_id = q.id and m.visible_at >= in_reached - case when is_check then interval '2 minutes' else interval '0' end
                order by m.visible_at limit 1))
        where owner_id = q.owner_id and id = q.id;
    end if;
end $$;
grant execute on function move_queue_front(queues, timestamptz) to thecloud_api;

-- As in 0011_queues.sql, from the front on.
create or replace function receive_messages(in_queue_id uuid, in_count int, in_is_waiting boolean)
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
    reached timestamptz;
begin
    select * into q from queues where owner_id = current_owner() and id = in_queue_id;
    if not found then raise sqlstate 'TC404' using message = 'no such queue'; end if;
    owner := q.owner_id;
    dead := case when q.max_receive_count is not null then q.dead_letter_queue_id end;
    -- The clock may have been set back.
    reached := case when q.front <= now() then q.front else '-infinity' end;
    for round in 0..20 loop
        select array_agg(d.id order by d.visible_at, d.id) filter (where not d.is_expired and not d.is_spent),
            array_agg(d.id) filter (where d.is_expired), array_agg(d.id) filter (where d.is_spent and not d.is_expired)
        into chosen, expired, spent
        from (
            select m.id, m.visible_at, coalesce(m.arrived_at, m.sent_at) <= now() - q.retention * interval '1 second' as is_expired,
                dead is not null and m.receive_count >= q.max_receive_count as is_spent
            from queue_messages m where m.queue_id = in_queue_id and m.visible_at >= reached and m.visible_at <= now()
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
    if q.front_at < now() - interval '500 milliseconds' then
        perform move_queue_front(q, reached);
    end if;
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

reset role;
