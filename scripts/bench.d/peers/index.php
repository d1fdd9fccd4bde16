<?php
// The same list with PHP-FPM (Debian: php-fpm php-pgsql).
header('Content-Type: application/json');
$database = pg_pconnect($_SERVER['PEER_DATABASE']);
$digest = '\x' . hash('sha256', $_SERVER['HTTP_X_API_KEY'] ?? '');
$who = pg_fetch_row(pg_query_params($database, 'select u.id, u.role, k.id from api_keys k join users u on u.id = k.owner_id
    where k.key_hash = $1::bytea and k.revoked_at is null', [$digest]));
if (!$who) {
    http_response_code(401);
    exit('{"error":"unauthorized"}');
}
$rows = pg_query_params($database, 'select id, name, image, status, instance_type, ports, created_at from instances
    where owner_id = $1 order by id desc limit 51', [$who[0]]);
echo json_encode(['data' => pg_fetch_all($rows)]);
