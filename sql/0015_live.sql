-- The live events of people (GET /ws): sockets that hear whole channels, and where a client that comes again goes on.

set local role thecloud_owner;

alter table sockets drop constraint sockets_kind;
alter table sockets add constraint sockets_kind check (kind in ('agent', 'chat', 'metrics', 'live'));
create index sockets_live on sockets (owner_id) where kind = 'live';

-- published_no: the order in which events were published, over all channels.
create sequence events_published_no;
grant usage on sequence events_published_no to thecloud_cron;
alter table events add published_no bigint;
create index events_published on events (owner_id, published_no) where published_no is not null;
grant select (published_no) on events to thecloud_api;
reset role;
