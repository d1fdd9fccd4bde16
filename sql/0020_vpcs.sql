-- VPCs, their subnets, and the addresses in them. A VPC is planned with a block of its owner's choice (cidr_block); the engine's network
-- behind it has a block of the same size that nobody else has (networks.network_cidr), so everybody may plan with 10.0.0.0/16.

set local role thecloud_owner;

create table vpcs (
    id uuid not null constraint vpcs_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    cidr_block cidr not null,
    status text not null default 'PENDING' constraint vpcs_status check (status in ('PENDING', 'AVAILABLE', 'ERROR')),
    status_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint vpcs_name_taken unique (owner_id, name)
);
call protect('vpcs');
grant select, insert, delete, update (name, updated_at) on vpcs to thecloud_api;
grant select, update (status, status_reason, updated_at) on vpcs to thecloud_cron;

-- The network behind a VPC has the VPC's id. It outlives the VPC until the engine has let go of the block.
alter table networks
    add column is_default boolean not null default true,
    alter column owner_id set default current_owner(),
    drop constraint networks_one_default;
alter table networks alter column is_default set default false;
create unique index networks_one_default on networks (owner_id) where is_default;
create unique index networks_id on networks (id);
grant select, insert on networks to thecloud_api;
grant select on networks to thecloud_auth;

-- network_cidr: where the block lies in the network behind the VPC; it moves along when the engine refuses that network's block.
create table subnets (
    id uuid not null,
    owner_id uuid not null default current_owner(),
    vpc_id uuid not null,
    name text not null,
    cidr_block cidr not null,
    network_cidr cidr not null,
    availability_zone text not null,
    created_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint subnets_of_a_vpc unique (owner_id, vpc_id, id),
    constraint subnets_name_taken unique (owner_id, vpc_id, name),
    constraint subnets_vpc foreign key (owner_id, vpc_id) references vpcs (owner_id, id),
    constraint subnets_apart exclude using gist (network_cidr inet_ops with &&)
);
create index subnets_vpc_id on subnets (vpc_id);
call protect('subnets');
grant select, insert, delete on subnets to thecloud_api;
grant select, update (network_cidr) on subnets to thecloud_cron;

alter table instances
    add column vpc_id uuid,
    add column subnet_id uuid,
    add constraint instances_vpc foreign key (owner_id, vpc_id) references vpcs (owner_id, id),
    add constraint instances_subnet foreign key (owner_id, vpc_id, subnet_id) references subnets (owner_id, vpc_id, id),
    add constraint instances_subnet_in_vpc check (subnet_id is null or vpc_id is not null);
create index instances_vpc_id on instances (vpc_id) where vpc_id is not null;
create index instances_subnet_id on instances (subnet_id) where subnet_id is not null;
grant select (vpc_id, subnet_id) on instances to thecloud_api;

-- Who has which address of a VPC's network; number: counted from the block's first address, because the block may still move.
-- Whatever else lives in VPCs gets a column of its own beside instance_id.
create table addresses (
    owner_id uuid not null default current_owner(),
    network_id uuid not null,
    number int not null,
    instance_id uuid,
    constraint addresses_taken primary key (owner_id, network_id, number),
    constraint addresses_of_one_instance unique (owner_id, instance_id),
    constraint addresses_holder check (num_nonnulls(instance_id) = 1),
    foreign key (owner_id, network_id) references networks (owner_id, id) on delete cascade,
    foreign key (owner_id, instance_id) references instances (owner_id, id) on delete cascade
);
create index addresses_network_id on addresses (network_id);
call protect('addresses');
grant select, insert on addresses to thecloud_api;
grant select, insert, update, delete on addresses to thecloud_cron;

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_vpc_quota(in_vpcs int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud vpcs ' || current_owner(), 0));
    if (select count(*) from vpcs where owner_id = current_owner()) >= in_vpcs then
        raise sqlstate 'TCQTA' using message = format('at most %s VPCs', in_vpcs);
    end if;
end $$;
grant execute on function check_vpc_quota(int) to thecloud_api;

-- Refuses (TCQTA) one subnet more than a VPC may have; the caller holds the VPC's row.
create function check_subnet_quota(in_vpc uuid, in_subnets int) returns void
language plpgsql stable set search_path = pg_catalog, public
as $$
begin
    if (select count(*) from subnets where vpc_id = in_vpc) >= in_subnets then
        raise sqlstate 'TCQTA' using message = format('at most %s subnets in a VPC', in_subnets);
    end if;
end $$;
grant execute on function check_subnet_quota(uuid, int) to thecloud_api;

-- Where a block of a VPC's plan lies in the network behind it.
create function shifted(in_block cidr, in_plan cidr, in_network cidr) returns cidr language sql immutable parallel safe
as $$ select set_masklen((host(in_network)::inet + (host(in_block)::inet - host(in_plan)::inet)), masklen(in_block))::cidr $$;
grant execute on function shifted(cidr, cidr, cidr) to thecloud_api, thecloud_cron;

-- The number of an address that nobody holds: the lowest of the subnet; without one the VPC's highest, outside of all subnets if it can be.
-- The network's first two addresses (its own, the gateway's) and the ends of blocks belong to nobody. Serialises those who pick in one VPC,
-- until they commit. in_busy: addresses that are not free either.
create function pick_address(in_vpc uuid, in_subnet uuid, in_busy inet[]) returns int
language plpgsql volatile set search_path = pg_catalog, public
as $$
declare
    network record;
    lowest int;
    highest int;
    found int;
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud addresses ' || in_vpc, 0));
    select n.owner_id, n.network_cidr, host(n.network_cidr)::inet as base into network from networks n where n.id = in_vpc;
    if network is null then
        raise sqlstate 'TC409' using message = 'The VPC is gone';
    end if;
    lowest := 2;
    highest := (broadcast(network.network_cidr) - network.network_cidr)::int - 1;
    if in_subnet is not null then
        select greatest((s.network_cidr - network.base)::int + 1, lowest), (broadcast(s.network_cidr) - network.base)::int - 1
        into lowest, highest from subnets s where s.owner_id = network.owner_id and s.id = in_subnet;
    end if;
    with taken (number) as materialized (
        select a.number from addresses a where a.owner_id = network.owner_id and a.network_id = in_vpc
        union all select (busy - network.base)::int from unnest(in_busy) busy where busy << network.network_cidr
    ), ranges (first, last) as materialized (
        select (s.network_cidr - network.base)::int, (broadcast(s.network_cidr) - network.base)::int
        from subnets s where in_subnet is null and s.owner_id = network.owner_id and s.vpc_id = in_vpc
    ), candidates (number) as (
        select case when in_subnet is null then highest else lowest end
        union select case when in_subnet is null then t.number - 1 else t.number + 1 end from taken t
        union select r.first - 1 from ranges r
    )
    select c.number into found from candidates c
    where c.number between lowest and highest and not exists (select from taken t where t.number = c.number)
    order by exists (select from ranges r where c.number between r.first and r.last),
    case when in_subnet is null then - c.number else c.number end limit 1;
    if found is null then
        raise sqlstate 'TC409' using message = format('No free address is left in the %s', case when in_subnet is null then 'VPC' else 'subnet' end);
    end if;
    return found;
end $$;
grant execute on function pick_address(uuid, uuid, inet[]) to thecloud_api, thecloud_cron;

set local role thecloud_auth;

-- The first block of the pools that no network of anybody has, and that is not among the refused. Serialises those who look, until they commit.
-- Such a block either begins its pool or follows one that is taken, so no others are tried.
create function free_block(in_pools cidr[], in_length int, in_refused cidr[]) returns cidr
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    found cidr;
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud free_block', 0));
    with pools (pool, position) as (
        select * from unnest(in_pools) with ordinality
    ), candidates (block, position) as (
        select set_masklen(pool, in_length), position from pools
        union
        select set_masklen(host(broadcast(set_masklen(broadcast(t.block), in_length)))::inet + 1, in_length)::cidr, p.position
        from (select network_cidr from networks union all select unnest(in_refused)) t (block) join pools p on t.block <<= p.pool
    )
    select c.block into found from candidates c join pools p on p.position = c.position and c.block <<= p.pool
    where not exists (select from networks n where n.network_cidr && c.block)
    and not exists (select from unnest(in_refused) refused where refused && c.block) order by c.position, c.block limit 1;
    if found is null then
        raise sqlstate 'TC409' using message = format('No address block of size /%s is left on this installation', in_length);
    end if;
    return found;
end $$;
grant execute on function free_block(cidr[], int, cidr[]) to thecloud_api, thecloud_cron;
reset role;
