-- Host ports are held by whatever publishes one: instances now, other kinds with a column of their own beside instance_id.

set local role thecloud_owner;

alter table instance_ports rename to host_ports;
alter table host_ports
    drop constraint instance_ports_pkey,
    alter column instance_id drop not null,
    drop constraint instance_ports_taken,
    add constraint host_ports_taken primary key (host_port),
    add constraint host_ports_of_one_instance unique (owner_id, instance_id, position),
    add constraint host_ports_holder check (num_nonnulls(instance_id) = 1);
alter table host_ports rename constraint instance_ports_range to host_ports_range;

set local role thecloud_auth;

-- Host ports that nobody holds. Serialises those who pick, until they commit.
create or replace function free_ports(in_count int, in_busy int[]) returns int[]
language plpgsql volatile security definer set search_path = pg_catalog, public
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud free_ports', 0));
    return array(
        select port from generate_series(20000, 32767) port
        where port <> all (in_busy) and not exists (select from host_ports p where p.host_port = port)
        order by random() limit in_count);
end $$;
reset role;
