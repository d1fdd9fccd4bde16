-- Further principals on the one table of keys: clients (tenants of Chat) with master keys, their members with scoped keys, servers with
-- agent keys. A client is an account without address and password; what it and its members own is its own like any account's.

set local role thecloud_owner;

alter table users drop constraint users_role;
alter table users
    alter email drop not null,
    alter email_key drop not null,
    alter password_hash drop not null,
    add constraint users_role check (role in ('owner', 'admin', 'developer', 'viewer', 'user', 'client')),
    add constraint users_people_log_in check (role = 'client' or (email is not null and email_key is not null and password_hash is not null));

-- The member that the principal is, when it is one of a client's; set by authenticate().
create function current_member() returns uuid language sql stable parallel safe
as $$ select nullif(current_setting('thecloud.member', true), '')::uuid $$;
grant execute on function current_member() to thecloud_api, thecloud_cron, thecloud_auth;

-- The people of a client (contract: its users).
create table members (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    email text not null,
    email_key text not null,
    username text not null,
    full_name text,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint members_email_taken unique (owner_id, email_key),
    constraint members_email_key_is_folded check (email_key = lower(email_key))
);
call protect('members');
grant select, insert, update (email, email_key, username, full_name, is_active, updated_at), delete on members to thecloud_api;
grant select on members to thecloud_cron, thecloud_auth;

-- Machines with an agent. last_seen_at: of its last message.
create table servers (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    host text not null,
    port int constraint servers_port check (port between 1 and 65535),
    last_seen_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id)
);
call protect('servers');
grant select, insert, update (name, host, port, updated_at), delete on servers to thecloud_api;
grant select on servers to thecloud_cron;
grant select, update on servers to thecloud_auth;

-- kind: beside `key` and `login` of people, `master` of a client, `scoped` of a member, `agent` of a server.
-- role: of the account for people and clients; `member` and `agent` for the others.
alter table api_keys drop constraint api_keys_kind;
alter table api_keys
    add member_id uuid,
    add server_id uuid,
    add constraint api_keys_kind check (kind in ('key', 'login', 'master', 'scoped', 'agent')),
    add constraint api_keys_subject check ((kind = 'scoped') = (member_id is not null) and (kind = 'agent') = (server_id is not null)),
    add foreign key (owner_id, member_id) references members (owner_id, id) on delete cascade,
    add foreign key (owner_id, server_id) references servers (owner_id, id) on delete cascade;
create index api_keys_members on api_keys (owner_id, member_id) where member_id is not null;
create index api_keys_servers on api_keys (owner_id, server_id) where server_id is not null;
grant select (member_id, server_id) on api_keys to thecloud_api, thecloud_cron;

-- What happened, for sockets and webhooks; written in the transaction of what it tells, sent on by thecloud-cron.
-- type: `instance.running`; its first part is the kind. message_id: where the realtime channel put it.
create table events (
    id uuid not null,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    type text not null,
    resource_id uuid,
    data jsonb not null default '{}',
    is_published boolean not null default false,
    message_id text,
    created_at timestamptz not null default now(),
    primary key (owner_id, id)
);
create index events_unpublished on events (id) where not is_published;
create index events_age on events using brin (created_at);
call protect('events');
grant select (id, owner_id, type, resource_id, data, message_id, created_at), insert on events to thecloud_api;
grant select, insert, update, delete on events to thecloud_cron;
grant insert on events to thecloud_auth;

-- WebSockets that are open, each with a channel of its own, `s/<id>`. Nobody's until its first message has authenticated it.
create table sockets (
    id text primary key constraint sockets_id check (id ~ '^[0-9a-f]{32}$'),
    kind text not null constraint sockets_kind check (kind in ('agent', 'chat', 'metrics')),
    owner_id uuid,
    credential_id uuid,
    member_id uuid,
    server_id uuid,
    opened_at timestamptz not null default now()
);
create index sockets_servers on sockets (owner_id, server_id) where server_id is not null;
create index sockets_chat on sockets (owner_id) where kind = 'chat';
create index sockets_anonymous on sockets (opened_at) where credential_id is null;
alter table sockets enable row level security;
alter table sockets force row level security;
create policy of_the_house on sockets to thecloud_auth, thecloud_cron, thecloud_owner using (true) with check (true);
grant select, update, delete on sockets to thecloud_cron;
grant select, insert, update, delete on sockets to thecloud_auth;

set local role thecloud_auth;

-- Keys of members and agents have roles of their own, whatever their account's is.
create function copy_key_role() returns trigger language plpgsql security definer set search_path = pg_catalog, public
as $$
begin
    if new.kind in ('scoped', 'agent') then
        new.role := case new.kind when 'scoped' then 'member' else 'agent' end;
    else
        select u.role into new.role from users u where u.id = new.owner_id for share;
    end if;
    return new;
end $$;
grant execute on function copy_key_role() to thecloud_owner;

create or replace function spread_role() returns trigger language plpgsql security definer set search_path = pg_catalog, public
as $$
begin
    update api_keys set role = new.role where owner_id = new.id and kind not in ('scoped', 'agent');
    update sessions set role = new.role where owner_id = new.id;
    return null;
end $$;

-- As before, but in_roles counts for every route, because not every living key is a person's; and members are told apart.
create or replace function authenticate(in_hash bytea, in_permission text, in_roles text[], in_directory_roles text[], in_address inet)
returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    k record;
begin
    perform set_config('thecloud.owner', a.owner_id::text, true), set_config('thecloud.credential', a.id::text, true)
    from api_keys a
    where a.key_hash = in_hash and a.last_used_at > now() - interval '1 minute' and a.allowed_cidrs is null
        and (a.expires_at is null or a.expires_at > now()) and not a.role = any (in_directory_roles)
        and a.role = any (in_roles) and (a.permissions is null or in_permission = any (a.permissions)) and a.member_id is null;
    if found then return; end if;

    select a.owner_id, a.id, a.role, a.permissions, a.allowed_cidrs, a.expires_at, a.idle_seconds, a.last_used_at, a.member_id into k
    from api_keys a where a.key_hash = in_hash;
    if not found then raise sqlstate 'TC401' using message = 'no such key'; end if;
    if k.expires_at <= now() or k.last_used_at + k.idle_seconds * interval '1 second' <= now() then
        raise sqlstate 'TC402' using message = 'the key has expired';
    end if;
    if k.allowed_cidrs is not null and not exists (select from unnest(k.allowed_cidrs) c where in_address <<= c) then
        raise sqlstate 'TC403' using message = 'the key may not be used from this address';
    end if;
    if not k.role = any (in_roles) or in_permission is not null and k.permissions is not null and not in_permission = any (k.permissions) then
        raise sqlstate 'TC403' using message = 'the permission is missing';
    end if;
    perform set_config('thecloud.owner', k.owner_id::text, true), set_config('thecloud.credential', k.id::text, true),
        set_config('thecloud.member', coalesce(k.member_id::text, ''), true);
    if k.role = any (in_directory_roles) and (k.permissions is null or 'auth:read' = any (k.permissions)) then
        perform set_config('thecloud.directory', 'on', true);
    end if;
    perform from api_keys a where a.owner_id = k.owner_id and a.id = k.id and a.last_used_at <= now() - interval '1 minute'
        for no key update skip locked;
    if found then
        update api_keys a set last_used_at = now() where a.owner_id = k.owner_id and a.id = k.id;
    end if;
end $$;

-- As before; clients have no role that could be changed.
create or replace function change_role(in_user_id uuid, in_role text, in_address inet, in_request_id text)
returns table (id uuid, email text, name text, role text, created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    present text;
    actor text;
begin
    perform from users u where u.role = 'owner' or u.id = in_user_id order by u.id for no key update;
    select u.role into present from users u where u.id = in_user_id and u.role <> 'client';
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

set local role thecloud_owner;
drop trigger role_of_the_account on api_keys;
create trigger role_of_the_account before insert on api_keys for each row execute function copy_key_role();
reset role;
