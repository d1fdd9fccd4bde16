-- A queue's delay is shorter than its retention: else whatever is sent has expired before anybody may receive it. Older rows stay as they are.

set local role thecloud_owner;
alter table queues add constraint queues_delay_fits check (delay < retention) not valid;
reset role;
