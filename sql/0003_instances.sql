-- Instances, the host ports they hold, and the networks behind them.
-- A handler writes the wish (desired); thecloud-cron makes it so and writes what is (status).

set local role thecloud_owner;

-- The engine's network of an owner: made with the first instance, removed with the last. network_cidr: out of THECLOUD_NETWORK_POOL.
create table networks (
    id uuid not null,
    owner_id uuid not null references users (id) on delete cascade,
    network_cidr cidr not null,
    created_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint networks_one_default unique (owner_id),
    constraint networks_apart exclude using gist (network_cidr inet_ops with &&)
);
call protect('networks');
-- update: for locking a row.
grant select, insert, update, delete on networks to thecloud_cron;

create table instances (
    id uuid not null constraint instances_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    image text not null,
    command text[],
    env_names text[] not null default '{}',
    env_sealed bytea,
    instance_type text not null,
    cpus numeric not null,
    memory_mb int not null,
    ports text not null default '',
    desired text not null default 'RUNNING' constraint instances_desired check (desired in ('RUNNING', 'STOPPED', 'PAUSED', 'DELETED')),
    status text not null default 'STARTING'
        constraint instances_status check (status in ('STARTING', 'RUNNING', 'STOPPED', 'PAUSED', 'ERROR', 'TERMINATING')),
    status_reason text,
    private_ip inet,
    restarts int not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint instances_name_taken unique (owner_id, name)
);
create index instances_sealed on instances (id) where env_sealed is not null;
create index instances_active on instances (id) where not (desired = 'STOPPED' and status = 'STOPPED');
call protect('instances');
grant select (id, owner_id, name, image, command, env_names, instance_type, cpus, memory_mb, ports, desired, status, status_reason, private_ip,
    restarts, created_at, updated_at), insert, update (name, desired, status, status_reason, restarts, updated_at) on instances to thecloud_api;
grant select, update, delete on instances to thecloud_cron;

create table instance_ports (
    owner_id uuid not null default current_owner(),
    instance_id uuid not null,
    position int not null,
    host_port int not null constraint instance_ports_taken unique constraint instance_ports_range check (host_port between 1 and 65535),
    container_port int not null,
    is_picked boolean not null,
    primary key (owner_id, instance_id, position),
    foreign key (owner_id, instance_id) references instances (owner_id, id) on delete cascade
);
call protect('instance_ports');
grant select, insert on instance_ports to thecloud_api;
grant select, update, delete on instance_ports to thecloud_cron;
grant select on instance_ports to thecloud_auth;

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_instance_quota(in_instances int, in_memory_mb int, in_further_memory_mb int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
declare
    present record;
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud instances ' || current_owner(), 0));
    select count(*) as instances, coalesce(sum(memory_mb), 0) as memory_mb into present from instances where owner_id = current_owner();
    if present.instances >= in_instances then
        raise sqlstate 'TCQTA' using message = format('at most %s instances', in_instances);
    end if;
    if present.memory_mb + in_further_memory_mb > in_memory_mb then
        raise sqlstate 'TCQTA' using message = format('at most %s MB of memory in all instances', in_memory_mb);
    end if;
end $$;
grant execute on function check_instance_quota(int, int, int) to thecloud_api;

set local role thecloud_auth;

-- Host ports that no instance of anybody holds. Serialises those who pick, until they commit.
create function free_ports(in_count int, in_busy int[]) returns int[]
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud free_ports', 0));
    return array(
        select port from generate_series(20000, 32767) port
        where port <> all (in_busy) and not exists (select from instance_ports p where p.host_port = port)
        order by random() limit in_count);
end $$;
grant execute on function free_ports(int, int[]) to thecloud_api, thecloud_cron;
reset role;
