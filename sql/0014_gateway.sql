-- The gateway: which paths of an owner's gateway lead where, and the address behind each target's name.

set local role thecloud_owner;

-- One for each owner, made with the first route. id: the public part of its URLs, /gw/<id>/…
create table gateways (
    id text primary key constraint gateways_id check (id ~ '^[a-z2-7]{12}$'),
    owner_id uuid not null default current_owner() unique references users (id) on delete cascade,
    created_at timestamptz not null default now()
);
call protect('gateways');
grant select, insert on gateways to thecloud_api;
grant select on gateways to thecloud_auth;

-- methods: none means all. address: where the target's name leads, judged by the egress rule; nothing is sent without one.
create table routes (
    id uuid not null constraint routes_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    prefix text not null,
    target text not null,
    strip_prefix boolean not null,
    methods text[] not null default '{}',
    address text,
    status text not null default 'PENDING' constraint routes_status check (status in ('PENDING', 'ACTIVE', 'ERROR')),
    status_reason text,
    -- Since when the name leads nowhere; the last address is good for some minutes more.
    failing_since timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint routes_name_taken unique (owner_id, name),
    constraint routes_prefix_taken unique (owner_id, prefix)
);
call protect('routes');
grant select, insert, update (name, prefix, target, strip_prefix, methods, address, status, status_reason, failing_since, updated_at), delete
    on routes to thecloud_api;
grant select, update (address, status, status_reason, failing_since) on routes to thecloud_cron;
grant select on routes to thecloud_auth;

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_route_quota(in_routes int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud routes ' || current_owner(), 0));
    if (select count(*) from routes where owner_id = current_owner()) >= in_routes then
        raise sqlstate 'TCQTA' using message = format('at most %s routes', in_routes);
    end if;
end $$;
grant execute on function check_route_quota(int) to thecloud_api;

set local role thecloud_auth;

-- The route of a gateway with the longest of these prefixes, for a request that comes without a principal.
create function find_route(in_gateway text, in_prefixes text[])
returns table (prefix text, target text, strip_prefix boolean, methods text[], address text, stack uuid)
language sql stable security definer set search_path = pg_catalog, public
as $$
    select r.prefix, r.target, r.strip_prefix, r.methods, r.address, (select i.id from installation i)
    from gateways g join routes r on r.owner_id = g.owner_id and r.prefix = any (in_prefixes)
    where g.id = in_gateway order by length(r.prefix) desc limit 1
$$;
grant execute on function find_route(text, text[]) to thecloud_api;
reset role;
