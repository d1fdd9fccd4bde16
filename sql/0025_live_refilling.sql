-- The channels of GET /ws keep a minute of events in memory. Where they are lost they are filled anew, from the newest events as they were
-- published; and a client that comes again behind an event which is just being published is told to wait.

set local role thecloud_owner;

create index events_order on events (published_no) where published_no is not null;
grant select (is_published) on events to thecloud_api;
reset role;
