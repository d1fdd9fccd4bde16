-- Load balancers and their targets. A handler writes the wish (desired); thecloud-cron makes it so and writes what is (status).

set local role thecloud_owner;

-- health_path: null asks nothing, it is enough that a target takes connections. restarts: of its container, each soon after its last start.
create table load_balancers (
    id uuid not null constraint load_balancers_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    vpc_id uuid not null,
    name text not null,
    port int not null constraint load_balancers_port check (port between 1 and 65535),
    algorithm text not null default 'round-robin' constraint load_balancers_algorithm check (algorithm in ('round-robin', 'least-conn')),
    health_path text,
    health_interval int not null default 2,
    health_threshold int not null default 3,
    desired text not null default 'ACTIVE' constraint load_balancers_desired check (desired in ('ACTIVE', 'DELETED')),
    status text not null default 'CREATING'
        constraint load_balancers_status check (status in ('CREATING', 'ACTIVE', 'ERROR', 'TERMINATING')),
    status_reason text,
    private_ip inet,
    restarts int not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint load_balancers_name_taken unique (owner_id, name),
    constraint load_balancers_of_a_vpc unique (owner_id, vpc_id, id),
    constraint load_balancers_vpc foreign key (owner_id, vpc_id) references vpcs (owner_id, id)
);
create index load_balancers_vpc_id on load_balancers (vpc_id);
call protect('load_balancers');
grant select, insert, update (name, algorithm, health_path, health_interval, health_threshold, desired, status, status_reason, updated_at)
    on load_balancers to thecloud_api;
grant select, update (status, status_reason, private_ip, restarts, updated_at), delete on load_balancers to thecloud_cron;

-- vpc_id: that of both, so no target is in another VPC than its load balancer.
alter table instances add constraint instances_of_a_vpc unique (owner_id, vpc_id, id);
create table load_balancer_targets (
    id uuid not null,
    owner_id uuid not null default current_owner(),
    vpc_id uuid not null,
    load_balancer_id uuid not null,
    instance_id uuid not null,
    port int not null constraint load_balancer_targets_port check (port between 1 and 65535),
    weight int not null constraint load_balancer_targets_weight check (weight between 1 and 256),
    created_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint load_balancer_targets_taken unique (owner_id, load_balancer_id, instance_id),
    constraint load_balancer_targets_balancer
        foreign key (owner_id, vpc_id, load_balancer_id) references load_balancers (owner_id, vpc_id, id) on delete cascade,
    constraint load_balancer_targets_instance
        foreign key (owner_id, vpc_id, instance_id) references instances (owner_id, vpc_id, id) on delete cascade
);
create index load_balancer_targets_pages on load_balancer_targets (owner_id, load_balancer_id, id);
create index load_balancer_targets_instances on load_balancer_targets (owner_id, instance_id);
call protect('load_balancer_targets');
grant select, insert, delete on load_balancer_targets to thecloud_api;
grant select, insert, delete on load_balancer_targets to thecloud_cron;

alter table host_ports
    add column load_balancer_id uuid,
    add foreign key (owner_id, load_balancer_id) references load_balancers (owner_id, id) on delete cascade,
    add constraint host_ports_of_one_load_balancer unique (owner_id, load_balancer_id),
    drop constraint host_ports_holder,
    add constraint host_ports_holder check (num_nonnulls(instance_id, cache_id, load_balancer_id) = 1);

alter table addresses
    add column load_balancer_id uuid,
    add foreign key (owner_id, load_balancer_id) references load_balancers (owner_id, id) on delete cascade,
    add constraint addresses_of_one_load_balancer unique (owner_id, load_balancer_id),
    drop constraint addresses_holder,
    add constraint addresses_holder check (num_nonnulls(instance_id, load_balancer_id) = 1);

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_load_balancer_quota(in_load_balancers int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud load balancers ' || current_owner(), 0));
    if (select count(*) from load_balancers where owner_id = current_owner()) >= in_load_balancers then
        raise sqlstate 'TCQTA' using message = format('at most %s load balancers', in_load_balancers);
    end if;
end $$;

-- The same for the targets of one; not among the quotas of the settings: what one proxy can check.
create function check_target_quota(in_load_balancer uuid) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud targets ' || in_load_balancer, 0));
    if (select count(*) from load_balancer_targets where owner_id = current_owner() and load_balancer_id = in_load_balancer) >= 200 then
        raise sqlstate 'TCQTA' using message = 'at most 200 targets of a load balancer';
    end if;
end $$;
grant execute on function check_load_balancer_quota(int), check_target_quota(uuid) to thecloud_api;

-- Has load balancers looked through whose targets come, go, move or are to stop, whoever has done it.
create function balance_targets_anew() returns trigger language plpgsql set search_path = pg_catalog, public
as $$
begin
    perform enqueue('loadbalancer', b.id::text, null) from (select distinct load_balancer_id as id from changed) b;
    return null;
end $$;
create function balance_instance_anew() returns trigger language plpgsql set search_path = pg_catalog, public
as $$
begin
    perform enqueue('loadbalancer', t.load_balancer_id::text, null) from load_balancer_targets t
    where t.owner_id = new.owner_id and t.instance_id = new.id;
    return null;
end $$;
create trigger balanced_targets_come after insert on load_balancer_targets
    referencing new table as changed for each statement execute function balance_targets_anew();
create trigger balanced_targets_go after delete on load_balancer_targets
    referencing old table as changed for each statement execute function balance_targets_anew();
create trigger balanced_instance after update of private_ip, desired on instances for each row
    when ((old.private_ip, old.desired) is distinct from (new.private_ip, new.desired)) execute function balance_instance_anew();
reset role;
