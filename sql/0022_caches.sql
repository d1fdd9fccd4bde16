-- Caches, each a Redis server in a container with a volume and a host port of its own. A handler writes the wish (desired); thecloud-cron
-- makes it so and writes what is (status).

set local role thecloud_owner;

-- password_sealed: workers get it one by one, from cache_password(). restarts: each soon after its last start.
create table caches (
    id uuid not null constraint caches_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    memory_mb int not null constraint caches_memory check (memory_mb between 16 and 16384),
    host_port int not null,
    password_sealed bytea not null,
    desired text not null default 'RUNNING' constraint caches_desired check (desired in ('RUNNING', 'DELETED')),
    status text not null default 'CREATING' constraint caches_status check (status in ('CREATING', 'RUNNING', 'ERROR', 'TERMINATING')),
    status_reason text,
    restarts int not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint caches_name_taken unique (owner_id, name)
);
call protect('caches');
grant select (id, owner_id, name, memory_mb, host_port, desired, status, status_reason, created_at, updated_at), insert,
    update (desired, status, status_reason, updated_at) on caches to thecloud_api;
grant select, update, delete on caches to thecloud_cron;
grant select (id, owner_id, password_sealed) on caches to thecloud_auth;

alter table host_ports
    add column cache_id uuid,
    add foreign key (owner_id, cache_id) references caches (owner_id, id) on delete cascade,
    add constraint host_ports_of_one_cache unique (owner_id, cache_id),
    drop constraint host_ports_holder,
    add constraint host_ports_holder check (num_nonnulls(instance_id, cache_id) = 1);

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_cache_quota(in_caches int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud caches ' || current_owner(), 0));
    if (select count(*) from caches where owner_id = current_owner()) >= in_caches then
        raise sqlstate 'TCQTA' using message = format('at most %s caches', in_caches);
    end if;
end $$;
grant execute on function check_cache_quota(int) to thecloud_api;

set local role thecloud_auth;

-- The sealed password of one of the principal's caches.
create function cache_password(in_id uuid) returns bytea
language sql stable security definer set search_path = pg_catalog, public
as $$ select password_sealed from caches where owner_id = current_owner() and id = in_id $$;
grant execute on function cache_password(uuid) to thecloud_api;
reset role;
