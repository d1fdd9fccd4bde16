-- A socket of GET /ws hears one channel of events: that of its view, which is the kinds that its credential may read. With a channel for each kind a
-- client that came again could not be told where it was: of one second, events come back in another order than they came in.

set local role thecloud_owner;

-- The views that sockets have, or had until some minutes ago; events are published to those there are. view: the kinds, sorted, joined by `+`.
create table live_views (
    owner_id uuid not null references users (id) on delete cascade,
    view text not null,
    used_at timestamptz not null default now(),
    primary key (owner_id, view)
);
call protect('live_views');
create index live_views_age on live_views (used_at);
grant select, update, delete on live_views to thecloud_cron;
grant select, insert, update on live_views to thecloud_auth;

-- places: where the event stands in the channel of each view, in nchan's words. (message_id is what workers before this version read.)
alter table events add places jsonb not null default '{}';
grant select (places) on events to thecloud_api;

alter table sockets add view text;
reset role;

set local role thecloud_auth;

-- The principal's socket hears the events of a view. False where its owner has too many different ones.
create function open_view(in_id text, in_view text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    if not exists (select from live_views v where v.owner_id = current_owner() and v.view = in_view)
        and (select count(*) from live_views v where v.owner_id = current_owner()) >= 32 then
        return false;
    end if;
    update sockets s set view = in_view where s.id = in_id and s.owner_id = current_owner();
    insert into live_views (owner_id, view) values (current_owner(), in_view) on conflict (owner_id, view) do update set used_at = now();
    return true;
end $$;
grant execute on function open_view(text, text) to thecloud_api;
reset role;
