-- Chat: what belongs to a client beside its members and keys: rooms, who is in them, messages, notifications. A client is an account (users,
-- role `client`) with a row here. A member sees messages and participants of the rooms that it has joined, and nothing of others.

set local role thecloud_owner;

-- The name stands in users. webhook_secret_sealed: signs notifications that go to a URL of their own.
create table clients (
    owner_id uuid primary key references users (id) on delete cascade,
    description text,
    webhook_secret_sealed bytea not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
call protect('clients');
grant select (owner_id, description, created_at, updated_at), update (description, webhook_secret_sealed, updated_at) on clients to thecloud_api;
grant select, update (webhook_secret_sealed) on clients to thecloud_cron;
grant select, insert, update on clients to thecloud_auth;
grant delete on users, idempotency_keys to thecloud_auth;
grant select on idempotency_keys to thecloud_auth;

create table rooms (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    description text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id)
);
call protect('rooms');
grant select, insert, update (name, description, updated_at), delete on rooms to thecloud_api;
grant select on rooms to thecloud_cron;

create table participants (
    owner_id uuid not null default current_owner(),
    room_id uuid not null,
    member_id uuid not null,
    joined_at timestamptz not null default now(),
    primary key (owner_id, room_id, member_id),
    constraint participants_room foreign key (owner_id, room_id) references rooms (owner_id, id) on delete cascade,
    constraint participants_member foreign key (owner_id, member_id) references members (owner_id, id) on delete cascade
);
create index participants_rooms on participants (owner_id, member_id, room_id);
call protect('participants');
grant select, insert, delete on participants to thecloud_api;
grant select on participants to thecloud_cron, thecloud_auth;

-- member_id: null for what the client itself said, and for a member that is gone. A deleted message keeps its place and loses its content.
create table messages (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    room_id uuid not null,
    member_id uuid,
    content text not null,
    message_type text not null default 'text' constraint messages_type check (message_type in ('text', 'image', 'file', 'system')),
    is_edited boolean not null default false,
    is_deleted boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint messages_deleted_are_empty check (not is_deleted or content = ''),
    constraint messages_room foreign key (owner_id, room_id) references rooms (owner_id, id) on delete cascade,
    constraint messages_member foreign key (owner_id, member_id) references members (owner_id, id) on delete set null (member_id)
);
create index messages_history on messages (owner_id, room_id, id);
create index messages_members on messages (owner_id, member_id) where member_id is not null;
call protect('messages');
grant select, insert, update (content, is_edited, is_deleted, updated_at) on messages to thecloud_api;
grant select on messages to thecloud_cron;

-- Handlers write the wish; thecloud-cron delivers and writes what became of it.
create table notifications (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    type text not null constraint notifications_type check (type in ('email', 'websocket', 'webhook')),
    member_id uuid,
    to_email text,
    url text,
    subject text,
    content text not null,
    status text not null default 'pending' constraint notifications_status check (status in ('pending', 'sent', 'failed')),
    attempts int not null default 0,
    error text,
    sent_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint notifications_member foreign key (owner_id, member_id) references members (owner_id, id) on delete set null (member_id)
);
create index notifications_recent on notifications (owner_id, created_at);
create index notifications_members on notifications (owner_id, member_id) where member_id is not null;
create index notifications_subject on notifications (id);
create index notifications_age on notifications using brin (created_at);
call protect('notifications');
grant select, insert on notifications to thecloud_api;
grant select, update, delete on notifications to thecloud_cron;

-- A time as every answer shows it, for what is made in SQL (events).
create function rfc3339(in_time timestamptz) returns text language sql stable parallel safe
as $$ select to_char(in_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;
grant execute on function rfc3339(timestamptz) to thecloud_api, thecloud_cron;

set local role thecloud_auth;

-- Whether the member of this transaction has joined the room. Asks as the auth role, because participants' own policy asks it.
create function joined(in_room_id uuid) returns boolean language sql stable security definer set search_path = pg_catalog, public
as $$
    select exists (select from participants where owner_id = current_owner() and room_id = in_room_id and member_id = current_member())
$$;
grant execute on function joined(uuid) to thecloud_api;

-- A new client: account, its row, its first master key.
create function register_client(
    in_id uuid, in_name text, in_description text, in_sealed bytea, in_key_id uuid, in_key_hash bytea, in_prefix text, in_address inet,
    in_request_id text
) returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    insert into users (id, name, role) values (in_id, in_name, 'client');
    insert into clients (owner_id, description, webhook_secret_sealed) values (in_id, in_description, in_sealed);
    insert into api_keys (id, owner_id, kind, name, prefix, key_hash) values (in_key_id, in_id, 'master', 'master', in_prefix, in_key_hash);
    insert into audit_log (id, owner_id, actor_id, credential_id, action, resource_type, resource_id, address, request_id)
    values (new_id(), in_id, in_id, in_key_id, 'client.registered', 'client', in_id, in_address, in_request_id);
    return (select c.created_at from clients c where c.owner_id = in_id);
end $$;

-- Null leaves a member as it is. False where the principal is no client.
create function change_client(in_name text, in_description text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    update clients set description = coalesce(in_description, description), updated_at = now() where owner_id = current_owner();
    if not found then return false; end if;
    update users set name = coalesce(in_name, name) where id = current_owner() and role = 'client';
    return found;
end $$;

-- Ends the client that the principal is, with all that is its own; only the audit log remembers it, as long as it remembers anything.
create function delete_client() returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    delete from idempotency_keys where owner_id = current_owner();
    delete from users where id = current_owner() and role = 'client';
    return found;
end $$;
grant execute on function
    register_client(uuid, text, text, bytea, uuid, bytea, text, inet, text), change_client(text, text), delete_client() to thecloud_api;

set local role thecloud_owner;

-- The second line of defence: `as restrictive`, so beside the owner's policy.
create policy of_the_member on participants as restrictive to thecloud_api
    using (current_member() is null or member_id = current_member() or joined(room_id))
    with check (current_member() is null or member_id = current_member());
create policy of_the_member on messages as restrictive to thecloud_api
    using (current_member() is null or exists (
        select from participants p where p.owner_id = messages.owner_id and p.room_id = messages.room_id and p.member_id = current_member()))
    with check (current_member() is null or member_id = current_member());
create policy of_the_member on notifications as restrictive to thecloud_api
    using (current_member() is null) with check (current_member() is null);

-- Lets a client into all of its rooms and a member into those that it has joined. TC404 names a constraint, for bodies that hold the id.
create function check_room(in_room_id uuid) returns void
language plpgsql stable set search_path = pg_catalog, public
as $$
begin
    if not exists (select from rooms where id = in_room_id) then
        raise sqlstate 'TC404' using message = 'no such room', constraint = 'rooms_known';
    end if;
    if current_member() is not null and not joined(in_room_id) then
        raise sqlstate 'TC403' using message = 'the room has not been joined';
    end if;
end $$;

-- Refuses (TCQTA) one more of what a client has enough of; those that count at the same time may overshoot. Null: not asked.
create function check_chat_quota(in_members int, in_rooms int, in_notifications int) returns void
language plpgsql stable set search_path = pg_catalog, public
as $$
begin
    if in_members is not null and (select count(*) from (select from members limit in_members) t) >= in_members then
        raise sqlstate 'TCQTA' using message = format('at most %s users', in_members);
    end if;
    if in_rooms is not null and (select count(*) from (select from rooms limit in_rooms) t) >= in_rooms then
        raise sqlstate 'TCQTA' using message = format('at most %s rooms', in_rooms);
    end if;
    if in_notifications is not null and in_notifications <= (
        select count(*) from (select from notifications where created_at > now() - interval '1 day' limit in_notifications) t)
    then
        raise sqlstate 'TCQTA' using message = format('at most %s notifications a day', in_notifications);
    end if;
end $$;
grant execute on function check_room(uuid), check_chat_quota(int, int, int) to thecloud_api;
reset role;
