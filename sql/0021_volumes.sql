-- Volumes, each a volume of the engine, attached to one instance at a time.

set local role thecloud_owner;

-- made_at: since when the engine has it. is_deleted: its owner wants it gone; only then is the engine's volume removed, and the row after it.
-- is_detaching: it is attached as long as the instance's container has it. status says all of that in one word.
create table volumes (
    id uuid not null constraint volumes_id unique,
    owner_id uuid not null default current_owner() references users (id) on delete cascade,
    name text not null,
    size_gb int not null constraint volumes_size check (size_gb between 1 and 16384),
    instance_id uuid,
    mount_path text,
    is_detaching boolean not null default false,
    is_deleted boolean not null default false,
    made_at timestamptz,
    status_reason text,
    status text not null generated always as (
        case when is_deleted then 'TERMINATING' when status_reason is not null then 'ERROR' when made_at is null then 'CREATING'
        when instance_id is not null then 'IN_USE' else 'AVAILABLE' end) stored,
    used_bytes bigint,
    measured_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (owner_id, id),
    constraint volumes_name_taken unique (owner_id, name),
    constraint volumes_attachment check (instance_id is null or mount_path is not null and not is_deleted),
    constraint volumes_instance foreign key (owner_id, instance_id) references instances (owner_id, id) on delete set null (instance_id)
);
create unique index volumes_path_taken on volumes (owner_id, instance_id, mount_path) where instance_id is not null and not is_detaching;
create index volumes_instances on volumes (instance_id) where instance_id is not null;
call protect('volumes');
grant select, insert, update (instance_id, mount_path, is_detaching, is_deleted, updated_at) on volumes to thecloud_api;
grant select, update, delete on volumes to thecloud_cron;

-- What should be mounted in an instance, as its answers show it: a copy, so that lists read one table.
alter table instances add volumes jsonb not null default '[]';
grant select (volumes), update (volumes) on instances to thecloud_api;

-- Whoever attaches or detaches has locked the instance before the volume.
create function copy_mounts() returns trigger language plpgsql set search_path = pg_catalog, public
as $$
begin
    update instances i set volumes = present.mounts from (
        select wanted.id, coalesce(jsonb_agg(jsonb_build_object('volume_id', v.id, 'mount_path', v.mount_path) order by v.mount_path collate "C")
            filter (where v.id is not null), '[]') as mounts
        from (select distinct unnest(array[old.instance_id, new.instance_id]) as id) wanted
        left join volumes v on v.owner_id = new.owner_id and v.instance_id = wanted.id and not v.is_detaching
        group by wanted.id) present
    where i.owner_id = new.owner_id and i.id = present.id and i.volumes is distinct from present.mounts;
    return null;
end $$;
grant execute on function copy_mounts() to thecloud_api, thecloud_cron;
create trigger copy_mounts after update of instance_id, mount_path, is_detaching on volumes for each row execute function copy_mounts();

-- Refuses (TCQTA) what would take the principal over its quota; creators of one owner wait for each other, until they commit.
create function check_volume_quota(in_volumes int, in_gb int, in_further_gb int) returns void
language plpgsql volatile set search_path = pg_catalog, public
as $$
declare
    present record;
begin
    perform pg_advisory_xact_lock(hashtextextended('thecloud volumes ' || current_owner(), 0));
    select count(*) as volumes, coalesce(sum(size_gb), 0) as gb into present from volumes where owner_id = current_owner();
    if present.volumes >= in_volumes then
        raise sqlstate 'TCQTA' using message = format('at most %s volumes', in_volumes);
    end if;
    if present.gb + in_further_gb > in_gb then
        raise sqlstate 'TCQTA' using message = format('at most %s GB in all volumes', in_gb);
    end if;
end $$;
grant execute on function check_volume_quota(int, int, int) to thecloud_api;
reset role;
