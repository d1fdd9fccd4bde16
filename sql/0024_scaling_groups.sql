-- Auto-scaling groups: so many instances alike (their members), and the policies that change how many. thecloud-cron makes and removes members.

set local role thecloud_owner;

-- desired: the wish for the group itself. status: SCALING while its members are not as they should be, ERROR while it rests after failures.
-- failures: in a row, the last one at failed_at; retry_at: no member is made before. scaled_at: when a policy last changed desired_count.
-- These times are the clock's of whoever writes them, not the database's. ports: of each member, as instances have them; target_port: for
-- the load balancer.
create table scaling_groups (
    id uuid not null constraint scaling_groups_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    vpc_id uuid not null,
    load_balancer_id uuid,
    target_port int constraint scaling_groups_target_port check (target_port between 1 and 65535),
    name text not null,
    image text not null,
    command text[],
    env_names text[] not null default '{}',
    env_sealed bytea,
    instance_type text not null,
    cpus numeric not null,
    memory_mb int not null,
    ports text not null default '',
    min_instances int not null,
    max_instances int not null,
    desired_count int not null,
    desired text not null default 'ACTIVE' constraint scaling_groups_desired check (desired in ('ACTIVE', 'DELETED')),
    status text not null default 'SCALING'
        constraint scaling_groups_status check (status in ('SCALING', 'ACTIVE', 'ERROR', 'TERMINATING')),
    status_reason text,
    failures int not null default 0,
    failed_at timestamptz,
    failure_reason text,
    retry_at timestamptz,
    scaled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint scaling_groups_name_taken unique (owner_id, name),
    constraint scaling_groups_numbers
        check (min_instances >= 0 and max_instances between 1 and 20 and desired_count between min_instances and max_instances),
    constraint scaling_groups_target check ((load_balancer_id is null) = (target_port is null)),
    constraint scaling_groups_vpc foreign key (owner_id, vpc_id) references vpcs (owner_id, id),
    constraint scaling_groups_balancer
        foreign key (owner_id, vpc_id, load_balancer_id) references load_balancers (owner_id, vpc_id, id)
);
create index scaling_groups_vpc_id on scaling_groups (vpc_id);
create index scaling_groups_load_balancer_id on scaling_groups (load_balancer_id) where load_balancer_id is not null;
create index scaling_groups_sealed on scaling_groups (id) where env_sealed is not null;
call protect('scaling_groups');
grant select (id, owner_id, vpc_id, load_balancer_id, target_port, name, image, command, env_names, instance_type, cpus, memory_mb, ports,
    min_instances, max_instances, desired_count, desired, status, status_reason, failures, retry_at, scaled_at, created_at, updated_at), insert,
    update (name, min_instances, max_instances, desired_count, desired, status, status_reason, failures, retry_at, updated_at)
    on scaling_groups to thecloud_api;
grant select, update, delete on scaling_groups to thecloud_cron;

-- Either a target (percent of what the members have, that their average shall be at) or steps: [{"above"|"below": percent, "change": n}].
create table scaling_policies (
    id uuid not null,
    owner_id uuid not null default current_owner(),
    group_id uuid not null,
    metric text not null constraint scaling_policies_metric check (metric = 'cpu'),
    target int constraint scaling_policies_percent check (target between 1 and 100),
    steps jsonb,
    cooldown_seconds int not null constraint scaling_policies_cooldown check (cooldown_seconds >= 60),
    created_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint scaling_policies_form check (num_nonnulls(target, steps) = 1),
    constraint scaling_policies_group foreign key (owner_id, group_id) references scaling_groups (owner_id, id) on delete cascade
);
create index scaling_policies_groups on scaling_policies (owner_id, group_id, id);
call protect('scaling_policies');
grant select, insert, delete on scaling_policies to thecloud_api;
grant select on scaling_policies to thecloud_cron;

-- group_id: of a member. leaves_at: it gets no requests any more, and is removed then.
alter table instances
    add column group_id uuid,
    add column leaves_at timestamptz,
    add constraint instances_group foreign key (owner_id, group_id) references scaling_groups (owner_id, id);
create index instances_group_id on instances (group_id) where group_id is not null;
grant select (group_id) on instances to thecloud_api;
grant insert on instances, host_ports to thecloud_cron;
grant execute on function check_instance_quota(int, int, int) to thecloud_cron;

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_group_quota(in_groups int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud groups ' || current_owner(), 0));
    if (select count(*) from scaling_groups where owner_id = current_owner()) >= in_groups then
        raise sqlstate 'TCQTA' using message = format('at most %s auto-scaling groups', in_groups);
    end if;
end $$;

-- The same for the policies of one; not among the quotas of the settings.
create function check_policy_quota(in_group uuid) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud policies ' || in_group, 0));
    if (select count(*) from scaling_policies where owner_id = current_owner() and group_id = in_group) >= 20 then
        raise sqlstate 'TCQTA' using message = 'at most 20 policies of a group';
    end if;
end $$;
grant execute on function check_group_quota(int), check_policy_quota(uuid) to thecloud_api;

-- Has a group looked through whenever one of its members is otherwise than before, whoever has done it.
create function scale_anew() returns trigger language plpgsql set search_path = pg_catalog, public
as $$
begin
    perform enqueue('scaling_group', old.group_id::text, null);
    return null;
end $$;
create trigger scaled_member_changes after update of status, desired on instances for each row
    when (old.group_id is not null and (old.status, old.desired) is distinct from (new.status, new.desired)) execute function scale_anew();
create trigger scaled_member_goes after delete on instances for each row
    when (old.group_id is not null) execute function scale_anew();
reset role;
