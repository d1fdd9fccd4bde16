// The floor: the same work by hand, with libfcgi and libpq, in two plain round trips: the caller by the hash of X-API-Key, then the caller's newest
// instances.
#include "database.h"

static void list(PGconn *db, FCGX_Stream *out, const char *owner) {
    const char *values[] = {owner};
    PGresult *rows = PQexecPrepared(db, "list", 1, values, NULL, NULL, 0);
    FCGX_PutS("Content-Type: application/json\r\n\r\n{\"data\":[", out);
    for (int i = 0; i < PQntuples(rows); i++)
        FCGX_FPrintF(
            out, "%s{\"id\":\"%s\",\"name\":\"%s\",\"image\":\"%s\",\"status\":\"%s\",\"instance_type\":\"%s\",\"ports\":\"%s\",\"created_at\":\"%s\"}",
            i ? "," : "", PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 2), PQgetvalue(rows, i, 3),
            PQgetvalue(rows, i, 4), PQgetvalue(rows, i, 5), PQgetvalue(rows, i, 6));
    FCGX_PutS("]}", out);
    PQclear(rows);
}

static void *begin(void) {
    PGconn *db = PQconnectdb(getenv("PEER_DATABASE"));
    prepare(db, "who", "select u.id, u.role, k.id from api_keys k join users u on u.id = k.owner_id where k.key_hash = $1 and k.revoked_at is null");
    prepare(db, "list", "select id, name, image, status, instance_type, ports, created_at from instances where owner_id = $1 order by id desc limit 51");
    return db;
}

static void answer(void *db, FCGX_Request *request) {
    unsigned char digest[32];
    hash(request, digest);
    const char *values[] = {(char *)digest};
    int lengths[] = {32}, formats[] = {1};
    PGresult *who = PQexecPrepared(db, "who", 1, values, lengths, formats, 0);
    if (PQntuples(who) != 1) FCGX_PutS("Status: 401 Unauthorized\r\nContent-Type: application/json\r\n\r\n{\"error\":\"unauthorized\"}", request->out);
    else list(db, request->out, PQgetvalue(who, 0, 0));
    PQclear(who);
}
