-- The processes that hold WebSockets (homes), and what is to be said to a socket: whoever has something for one leaves an order with its home.
-- A socket's id begins with its home's 16 digits; those of GET /ws (kind live) are nginx's own and have none.

set local role thecloud_owner;

create table socket_homes (
    home text primary key constraint socket_homes_home check (home ~ '^[0-9a-f]{16}$'),
    seen_at timestamptz not null default now()
);
-- body: a text to send; null closes the socket.
create table socket_orders (
    id bigint generated always as identity primary key,
    home text not null,
    socket_id text not null,
    body text
);
create index socket_orders_home on socket_orders (home, id);
create index sockets_home on sockets (left(id, 16));
grant select, insert, update, delete on socket_homes to thecloud_auth;
grant select, insert, delete on socket_orders to thecloud_auth;
grant insert on socket_orders to thecloud_cron;
grant select, insert, update, delete on sockets to thecloud_auth;
grant select on server_metrics to thecloud_auth;
grant select, update on commands to thecloud_auth;

set local role thecloud_auth;

drop function sockets_to_close();

-- Sockets of a home (null: of GET /ws) that must end: those that were told to, or did not say who they are in time, and those whose
-- credential was revoked, has expired or idled too long.
create function sockets_to_close(in_home text) returns table (id text)
language sql stable security definer set search_path = pg_catalog, public
as $$
    select s.id from sockets s
    where (in_home is null and s.kind = 'live' or in_home is not null and s.kind <> 'live' and left(s.id, 16) = in_home)
    and (s.closes_at <= now() or s.closes_at is null and not exists (
            select from api_keys k where k.owner_id = s.owner_id and k.id = s.credential_id and (k.expires_at is null or k.expires_at > now())
            and (k.idle_seconds is null or k.last_used_at + k.idle_seconds * interval '1 second' > now()))
        and not exists (select from sessions l where l.owner_id = s.owner_id and l.id = s.credential_id and l.expires_at > now()))
$$;

-- A home says that it lives. Others that have not for 20 s are gone, with their sockets and orders.
create function keep_socket_home(in_home text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    insert into socket_homes (home) values (in_home) on conflict (home) do update set seen_at = now();
    delete from socket_homes where seen_at < now() - interval '20 seconds';
    delete from sockets s where s.kind <> 'live' and s.opened_at < now() - interval '20 seconds'
        and not exists (select from socket_homes h where h.home = left(s.id, 16));
    delete from socket_orders o where not exists (select from socket_homes h where h.home = o.home);
end $$;

create function leave_socket_home(in_home text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    delete from sockets where kind <> 'live' and left(id, 16) = in_home;
    delete from socket_orders where home = in_home;
    delete from socket_homes where home = in_home;
end $$;

create function take_socket_orders(in_home text) returns table (socket_id text, body text)
language sql volatile security definer set search_path = pg_catalog, public
as $$
    with taken as (delete from socket_orders o where o.home = in_home returning o.id, o.socket_id, o.body)
    select t.socket_id, t.body from taken t order by t.id
$$;

create function forget_sockets(in_ids text[]) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$ delete from sockets where id = any (in_ids) $$;

-- The newest report of each server that a socket of the home watches.
create function watched_reports(in_home text)
returns table (socket_id text, id uuid, server_id uuid, cpu_percent float8, memory_percent float8, disk_usage text, network text,
    reported_at timestamptz)
language sql stable security definer set search_path = pg_catalog, public
as $$
    select s.id, m.id, m.server_id, m.cpu_percent, m.memory_percent, m.disk_usage::text, m.network::text, m.reported_at
    from sockets s cross join lateral (
        select * from server_metrics m where m.owner_id = s.owner_id and m.server_id = s.server_id order by m.id desc limit 1) m
    where s.kind = 'metrics' and left(s.id, 16) = in_home and s.credential_id is not null and m.received_at > now() - interval '1 minute'
$$;

-- Hands a command of the principal to the newest of its server's agents; the home to wake. Null: there is no agent.
create function order_command(in_id uuid) returns text
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    c commands;
    socket text;
begin
    select * into c from commands where owner_id = current_owner() and id = in_id;
    select s.id into socket from sockets s join socket_homes h on h.home = left(s.id, 16) and h.seen_at > now() - interval '20 seconds'
    where s.kind = 'agent' and s.owner_id = c.owner_id and s.server_id = c.server_id and s.closes_at is null
    order by s.opened_at desc limit 1;
    if socket is null then
        update commands set state = 'OFFLINE' where owner_id = c.owner_id and id = c.id;
        return null;
    end if;
    update commands set state = 'SENT' where owner_id = c.owner_id and id = c.id;
    insert into socket_orders (home, socket_id, body)
    values (left(socket, 16), socket, format('{"type":"command","command_id":%s,"command":%s}', to_json(c.id), to_json(c.command)));
    return left(socket, 16);
end $$;

grant execute on function sockets_to_close(text) to thecloud_api, thecloud_cron;
grant execute on function keep_socket_home(text), leave_socket_home(text), take_socket_orders(text), forget_sockets(text[]),
    watched_reports(text), order_command(uuid)
to thecloud_api;
reset role;
