-- What the peers need, with as many rows as our own side has in the race: 1000 owners of ten instances each.
create table users (id uuid primary key default gen_random_uuid(), email text not null unique, role text not null default 'user');
create table api_keys (
    id uuid primary key default gen_random_uuid(), owner_id uuid not null references users, name text not null, key_hash bytea not null unique,
    revoked_at timestamptz, created_at timestamptz not null default now()
);
create table instances (
    id uuid primary key default gen_random_uuid(), owner_id uuid not null references users, name text not null, image text not null,
    status text not null, instance_type text not null, ports text not null, created_at timestamptz not null default now()
);
create index instances_owner on instances (owner_id, id);
insert into users (email) select 'u' || n || '@example.com' from generate_series(1, 1000) n;
insert into api_keys (owner_id, name, key_hash) select id, 'bench', sha256(email::bytea) from users;
insert into instances (owner_id, name, image, status, instance_type, ports)
select id, 'web-' || n, 'nginx:latest', 'STOPPED', 'small', '8080:80' from users, generate_series(1, 10) n;
vacuum analyze;
