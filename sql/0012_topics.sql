-- Topics, who subscribes to them, what was published, and how each subscriber fared. publish_message() stores a message and one delivery
-- for each active subscription in one transaction: into queues at once, to webhooks by the job `subscription_delivery`.

set local role thecloud_owner;

create table topics (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint topics_name_taken unique (owner_id, name)
);
call protect('topics');
grant select, insert, update (name, updated_at), delete on topics to thecloud_api;
grant select on topics to thecloud_cron;

-- endpoint: a webhook's URL, or the id of the queue, which queue_id refers to. secret_sealed: a webhook's; workers write it and never read it.
create table subscriptions (
    id uuid not null constraint subscriptions_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    topic_id uuid not null,
    protocol text not null constraint subscriptions_protocol check (protocol in ('webhook', 'queue')),
    endpoint text not null,
    queue_id uuid,
    secret_sealed bytea,
    is_active boolean not null default true,
    -- Why we stopped sending; null when its owner did.
    disabled_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint subscriptions_form
        check ((protocol = 'queue') = (queue_id is not null) and (protocol = 'webhook') = (secret_sealed is not null)),
    constraint subscriptions_queue_taken unique (owner_id, topic_id, queue_id),
    constraint subscriptions_topic foreign key (owner_id, topic_id) references topics (owner_id, id) on delete cascade,
    constraint subscriptions_queue foreign key (owner_id, queue_id) references queues (owner_id, id) on delete cascade
);
create index subscriptions_topics on subscriptions (owner_id, topic_id, id);
create index subscriptions_queues on subscriptions (owner_id, queue_id) where queue_id is not null;
call protect('subscriptions');
grant select (id, owner_id, topic_id, protocol, endpoint, queue_id, is_active, disabled_reason, created_at, updated_at), insert,
    update (endpoint, secret_sealed, is_active, disabled_reason, updated_at), delete on subscriptions to thecloud_api;
grant select, update on subscriptions to thecloud_cron;

-- body: the JSON that every subscriber gets, frozen when it was published.
create table topic_messages (
    id uuid not null,
    owner_id uuid not null default current_owner(),
    topic_id uuid not null,
    body text not null,
    created_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint topic_messages_topic foreign key (owner_id, topic_id) references topics (owner_id, id) on delete cascade
);
create index topic_messages_topics on topic_messages (owner_id, topic_id);
create index topic_messages_age on topic_messages using brin (created_at);
call protect('topic_messages');
grant select, insert on topic_messages to thecloud_api;
grant select, delete on topic_messages to thecloud_cron;

-- One message for one subscription; id is its `webhook-id`, or the id of the message in the queue. The columns are those of
-- webhook_deliveries, and the same job engine works on both.
create table subscription_deliveries (
    id uuid not null constraint subscription_deliveries_id unique,
    owner_id uuid not null default current_owner(),
    subscription_id uuid not null,
    message_id uuid not null,
    status text not null default 'PENDING' constraint subscription_deliveries_status check (status in ('PENDING', 'DELIVERED', 'FAILED')),
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
    constraint subscription_deliveries_once unique (owner_id, subscription_id, message_id),
    constraint subscription_deliveries_end
        check ((status = 'PENDING') = (next_attempt_at is not null) and (status = 'PENDING') = (finished_at is null)),
    constraint subscription_deliveries_subscription
        foreign key (owner_id, subscription_id) references subscriptions (owner_id, id) on delete cascade,
    constraint subscription_deliveries_message foreign key (owner_id, message_id) references topic_messages (owner_id, id) on delete cascade
);
create index subscription_deliveries_log on subscription_deliveries (owner_id, subscription_id, id);
create index subscription_deliveries_messages on subscription_deliveries (owner_id, message_id);
create index subscription_deliveries_pending on subscription_deliveries (owner_id, subscription_id) where status = 'PENDING';
call protect('subscription_deliveries');
grant select, insert, update (status, attempts, next_attempt_at, finished_at) on subscription_deliveries to thecloud_api;
grant select, update, delete on subscription_deliveries to thecloud_cron;

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other. Null: not asked.
create function check_topic_quota(in_topics int, in_subscriptions int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud topics ' || current_owner(), 0));
    if in_topics is not null and (select count(*) from topics where owner_id = current_owner()) >= in_topics then
        raise sqlstate 'TCQTA' using message = format('at most %s topics', in_topics);
    end if;
    if in_subscriptions is not null and (select count(*) from subscriptions where owner_id = current_owner()) >= in_subscriptions then
        raise sqlstate 'TCQTA' using message = format('at most %s subscriptions', in_subscriptions);
    end if;
end $$;

-- Puts these deliveries into the queues of their subscriptions, in the transaction that marks them as delivered. in_renew: as new messages,
-- because the first ones may still be there. The queues that somebody waits for.
create function put_into_queues(in_delivery_ids uuid[], in_renew boolean) returns uuid[]
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    insert into queue_messages (id, owner_id, queue_id, visible_at, body)
    select case when in_renew then new_id() else d.id end, d.owner_id, q.id, now() + q.delay * interval '1 second', m.body
    from subscription_deliveries d
    join subscriptions s on s.owner_id = d.owner_id and s.id = d.subscription_id
    join queues q on q.owner_id = s.owner_id and q.id = s.queue_id
    join topic_messages m on m.owner_id = d.owner_id and m.id = d.message_id
    where d.owner_id = current_owner() and d.id = any (in_delivery_ids);
    return array(
        select distinct q.id from subscription_deliveries d
        join subscriptions s on s.owner_id = d.owner_id and s.id = d.subscription_id
        join queues q on q.owner_id = s.owner_id and q.id = s.queue_id
        where d.owner_id = current_owner() and d.id = any (in_delivery_ids) and q.awaited_until > now());
end $$;

-- Stores a message (JSON text, as are its attributes) and its deliveries. No row: there is no such topic. subscribers: how many it goes to;
-- jobs: to how many of them by a job, for which the caller wakes thecloud-cron; awaited: queues that somebody waits for.
create function publish_message(in_topic_id uuid, in_id uuid, in_message text, in_attributes text, in_request_id text)
returns table (published_at timestamptz, subscribers int, jobs int, awaited text[])
language plpgsql volatile set search_path = pg_catalog, public
as $$
declare
    queued uuid[];
    posted uuid[];
begin
    insert into topic_messages (id, topic_id, body)
    select in_id, t.id, format('{"id":"%s","type":"topic.message","timestamp":"%s","data":{"topic_id":"%s","topic":%s,"message":%s,"attributes":%s}}',
        in_id, rfc3339(now()), t.id, to_json(t.name), in_message, in_attributes)
    from topics t where t.owner_id = current_owner() and t.id = in_topic_id;
    if not found then return; end if;
    with made as (
        insert into subscription_deliveries (id, subscription_id, message_id, status, attempts, next_attempt_at, finished_at)
        select new_id(), s.id, in_id, case s.protocol when 'queue' then 'DELIVERED' else 'PENDING' end, (s.protocol = 'queue')::int,
            case s.protocol when 'webhook' then now() end, case s.protocol when 'queue' then now() end
        -- One that is being deleted at this moment is waited for and then is not there.
        from (
            select u.id, u.protocol from subscriptions u where u.owner_id = current_owner() and u.topic_id = in_topic_id and u.is_active
            for key share) s
        returning id, status
    ), wished as (
        select id, enqueue('subscription_delivery', id::text, in_request_id) from made where status = 'PENDING'
    )
    select (select array_agg(id) from made where status = 'DELIVERED'), (select array_agg(id) from wished) into queued, posted;
    awaited := '{}';
    if queued is not null then awaited := put_into_queues(queued, false)::text[]; end if;
    published_at := now();
    jobs := coalesce(cardinality(posted), 0);
    subscribers := jobs + coalesce(cardinality(queued), 0);
    return next;
end $$;

grant execute on function check_topic_quota(int, int), put_into_queues(uuid[], boolean), publish_message(uuid, uuid, text, text, text)
to thecloud_api;
reset role;
