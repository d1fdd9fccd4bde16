-- Which sockets of Chat an event is for.

set local role thecloud_auth;

-- Of the event's client: master keys hear everything; a member what concerns a room that it has joined, and what names it itself.
create function chat_audience(in_owner_id uuid, in_type text, in_data jsonb) returns setof text
language sql stable security definer set search_path = pg_catalog, public
as $$
    select s.id from sockets s
    where s.kind = 'chat' and s.owner_id = in_owner_id and s.closes_at is null and (
        s.member_id is null and in_type ~ '^(message|room|participant|member|notification)\.'
        or in_type ~ '^(message|participant)\.' and exists (
            select from participants p where p.owner_id = in_owner_id and p.member_id = s.member_id and p.room_id = (in_data ->> 'room_id')::uuid)
        or in_type ~ '^room\.' and exists (
            select from participants p where p.owner_id = in_owner_id and p.member_id = s.member_id and p.room_id = (in_data ->> 'id')::uuid)
        or in_type ~ '^(notification|participant)\.' and in_data ->> 'user_id' = s.member_id::text)
$$;
grant execute on function chat_audience(uuid, text, jsonb) to thecloud_cron;
reset role;
