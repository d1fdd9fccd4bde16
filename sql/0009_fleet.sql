-- Sockets that authenticate by their first message, what agents report, and the commands that they are given.

set local role thecloud_owner;

-- When thecloud-cron is to close it; null for one that may stay.
alter table sockets add closes_at timestamptz default now() + interval '10 seconds';
drop index sockets_anonymous;
create index sockets_closing on sockets (closes_at) where closes_at is not null;

-- Whether webhooks have been told; sockets are told apart from them (is_published), because nginx may be away.
alter table events add is_fanned_out boolean not null default false;
create index events_not_fanned_out on events (id) where not is_fanned_out;

-- The server whose agent the principal is; set by authenticate_socket().
create function current_server() returns uuid language sql stable parallel safe
as $$ select nullif(current_setting('thecloud.server', true), '')::uuid $$;
grant execute on function current_server() to thecloud_api, thecloud_cron, thecloud_auth;

-- reported_at: by the agent's clock.
create table server_metrics (
    id uuid not null,
    owner_id uuid not null default current_owner(),
    server_id uuid not null default current_server(),
    cpu_percent float8 not null,
    memory_percent float8 not null,
    disk_usage jsonb,
    network jsonb,
    reported_at timestamptz not null,
    received_at timestamptz not null default now(),
    primary key (owner_id, server_id, id),
    foreign key (owner_id, server_id) references servers (owner_id, id) on delete cascade
);
create index server_metrics_age on server_metrics using brin (received_at);
call protect('server_metrics');
grant select, insert on server_metrics to thecloud_api;
grant select, delete on server_metrics to thecloud_cron;

-- state: PENDING until the agent has it, SENT until it answers. OFFLINE: no agent took it.
create table commands (
    id uuid not null,
    owner_id uuid not null default current_owner(),
    server_id uuid not null,
    command text not null,
    state text not null default 'PENDING' constraint commands_state check (state in ('PENDING', 'SENT', 'DONE', 'OFFLINE')),
    output text,
    exit_code int,
    duration_ms int,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    primary key (owner_id, id),
    constraint commands_server foreign key (owner_id, server_id) references servers (owner_id, id) on delete cascade
);
create index commands_pending on commands (created_at) where state = 'PENDING';
create index commands_servers on commands (owner_id, server_id, id);
create index commands_age on commands using brin (created_at);
call protect('commands');
grant select, insert, update (state, output, exit_code, duration_ms, finished_at) on commands to thecloud_api;
grant select, update, delete on commands to thecloud_cron;

set local role thecloud_auth;

-- A socket has opened; who it is, it has yet to say. in_server_id: what a browser wants to watch.
create function open_socket(in_id text, in_kind text, in_server_id uuid) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$ insert into sockets (id, kind, server_id) values (in_id, in_kind, in_server_id) on conflict (id) do nothing $$;

-- The socket belongs to the principal of this transaction from now on; an agent's server is its key's.
-- False when it is gone, is somebody's already, or watches what is not the principal's.
create function claim_socket(in_id text, in_kind text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    server uuid;
begin
    if in_kind = 'agent' then
        select k.server_id into server from api_keys k where k.owner_id = current_owner() and k.id = current_credential();
        update servers s set last_seen_at = now() where s.owner_id = current_owner() and s.id = server;
    elsif in_kind = 'metrics' then
        select v.id into server from servers v join sockets s on s.server_id = v.id where s.id = in_id and v.owner_id = current_owner();
        if not found then return false; end if;
    end if;
    perform set_config('thecloud.server', coalesce(server::text, ''), true);
    update sockets s set owner_id = current_owner(), credential_id = current_credential(), member_id = current_member(), server_id = server,
        closes_at = null
    where s.id = in_id and s.kind = in_kind and s.credential_id is null and s.opened_at > now() - interval '10 seconds';
    return found;
end $$;

-- What has been said on it is answered; after a moment it is closed.
create function dismiss_socket(in_id text) returns void
language sql volatile security definer set search_path = pg_catalog, public
as $$ update sockets set closes_at = now() + interval '300 milliseconds', opened_at = '-infinity' where id = in_id $$;

-- Which sockets belong to credentials that have ended: revoked, expired, or without the role that let them in.
create function sockets_to_close() returns table (id text)
language sql stable security definer set search_path = pg_catalog, public
as $$
    select s.id from sockets s where s.closes_at <= now()
    union all
    select s.id from sockets s
    where s.closes_at is null and not exists (
        select from api_keys k where k.owner_id = s.owner_id and k.id = s.credential_id and (k.expires_at is null or k.expires_at > now())
        and (k.idle_seconds is null or k.last_used_at + k.idle_seconds * interval '1 second' > now()))
    and not exists (select from sessions l where l.owner_id = s.owner_id and l.id = s.credential_id and l.expires_at > now())
$$;

-- Acts for whom the socket belongs to, as authenticate() does for a key, and raises as it does.
create function authenticate_socket(in_id text, in_kind text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
declare
    s sockets;
begin
    select * into s from sockets where id = in_id and kind = in_kind and credential_id is not null and closes_at is null;
    if not found then raise sqlstate 'TC401' using message = 'the socket is nobody''s'; end if;
    perform from api_keys k where k.owner_id = s.owner_id and k.id = s.credential_id and (k.expires_at is null or k.expires_at > now());
    if not found then
        perform from sessions l where l.owner_id = s.owner_id and l.id = s.credential_id and l.expires_at > now();
        if not found then raise sqlstate 'TC401' using message = 'the socket''s credential has ended'; end if;
    end if;
    perform set_config('thecloud.owner', s.owner_id::text, true), set_config('thecloud.credential', s.credential_id::text, true),
        set_config('thecloud.member', coalesce(s.member_id::text, ''), true), set_config('thecloud.server', coalesce(s.server_id::text, ''), true);
    if in_kind = 'agent' then
        update servers v set last_seen_at = now() where v.owner_id = s.owner_id and v.id = s.server_id;
    end if;
end $$;

grant execute on function open_socket(text, text, uuid), claim_socket(text, text), dismiss_socket(text), authenticate_socket(text, text)
to thecloud_api;
grant execute on function sockets_to_close() to thecloud_cron;
reset role;
