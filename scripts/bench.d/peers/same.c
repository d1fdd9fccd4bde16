// What our own statements cost from C: $PEER_DATABASE is ours (as thecloud_api), $PEER_QUEUE a queue in it.
// POST /same/instances sends what POST /instances does, statement by statement. POST, GET and DELETE /same/messages send what the queue's
// requests do, each in one round trip, as our workers do it.
#include <openssl/rand.h>
#include <time.h>

#include "database.h"

static const char *queue;

enum { AUTHENTICATE, QUOTA, AUDIT, EVENT, ENQUEUE, INSERT, NOTIFY, SEND, RECEIVE, DELETE, STATEMENTS };

static const char *texts[STATEMENTS] = {
    [AUTHENTICATE] = "select authenticate($1, $2, '{owner,admin,developer,user}'::text[], '{owner,admin}'::text[], $3::inet)",
    [QUOTA] = "select check_instance_quota($1, $2, $3)",
    [AUDIT] = "insert into audit_log (id, action, resource_type, resource_id, address, request_id, detail) "
              "values (new_id(), 'instance.created', 'instance', $1, $2::inet, 'bench', $3::jsonb)",
    [EVENT] = "insert into events (id, type, resource_id, data) values (new_id(), 'instance.created', $1, $2::jsonb)",
    [ENQUEUE] = "select enqueue('instance', $1, 'bench')",
    [INSERT] = "insert into instances (id, name, image, env_names, instance_type, cpus, memory_mb, ports, volumes) "
               "values ($1, $2, 'nginx:latest', '{}', 'small', 1, 512, '', '[]') "
               "returning id, name, image, status, instance_type, ports, created_at, updated_at",
    [NOTIFY] = "select pg_notify('jobs', ''), pg_notify('events', '')",
    [SEND] = "with q as materialized (select id, delay, awaited_until from queues where id = $1), stored as ("
             "insert into queue_messages (id, queue_id, visible_at, attributes, body) "
             "select new_id(), id, now() + coalesce(null::int, delay) * interval '1 second', coalesce(null, '{}'), $2 from q returning id, sent_at) "
             "select s.id, s.sent_at, false, q.awaited_until > now() from stored s cross join q",
    [RECEIVE] = "select id, body, attributes, receipt, receive_count, sent_at, first_received_at, visible_until, next_seconds, owner "
                "from receive_messages($1, 1, false)",
    [DELETE] = "with gone as (delete from queue_messages where id = $1 and (queue_id = $2) is true and receipt = $3 returning id) "
               "select exists (select from gone), exists (select from queue_messages where id = $1 and (queue_id = $2) is true)",
};

static void name_of(int statement, char *name) { sprintf(name, "s%d", statement); }

static PGresult *one(PGconn *db, int statement, int count, const char *const *values, const int *lengths, const int *formats) {
    char name[8];
    name_of(statement, name);
    return PQexecPrepared(db, name, count, values, lengths, formats, 0);
}

static int ask(PGconn *db, int statement, int count, const char *const *values, const int *lengths, const int *formats) {
    PGresult *result = one(db, statement, count, values, lengths, formats);
    int ok = PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
    if (!ok) fprintf(stderr, "%s", PQerrorMessage(db));
    PQclear(result);
    return ok;
}

static int simple(PGconn *db, const char *text) {
    PGresult *result = PQexec(db, text);
    int ok = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return ok;
}

// The credential's check and one statement, committed, in one round trip; the statement's rows.
static PGresult *both(PGconn *db, const unsigned char *digest, const char *permission, const char *address, int statement, int count, const char *const *values) {
    const char *who[] = {(const char *)digest, permission, address};
    int lengths[] = {32, 0, 0}, formats[] = {1, 0, 0};
    char name[8];
    name_of(statement, name);
    PQenterPipelineMode(db);
    PQsendQueryPrepared(db, "s0", 3, who, lengths, formats, 0);
    PQsendQueryPrepared(db, name, count, values, NULL, NULL, 0);
    PQpipelineSync(db);
    PGresult *result, *found = NULL;
    for (int answers = 0; answers < 2; answers++) {
        while ((result = PQgetResult(db))) {
            if (answers == 1) found = result;
            else PQclear(result);
        }
    }
    PQclear(PQgetResult(db));
    PQexitPipelineMode(db);
    return found;
}

static void fail(FCGX_Stream *out) { FCGX_PutS("Status: 500 Internal Server Error\r\n\r\n", out); }

static void create(PGconn *db, const unsigned char *digest, const char *address, FCGX_Stream *out) {
    unsigned char random[16];
    char id[37], instance[64], told[160];
    struct timespec now;
    RAND_bytes(random, sizeof random);
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned long long ms = now.tv_sec * 1000ull + now.tv_nsec / 1000000;
    snprintf(
        id, sizeof id, "%08llx-%04llx-7%03x-8%03x-%02x%02x%02x%02x%02x%02x", ms >> 16, ms & 0xffff, (random[0] << 4 | random[1] >> 4) & 0xfff,
        (random[2] << 4 | random[3] >> 4) & 0xfff, random[4], random[5], random[6], random[7], random[8], random[9]);
    sprintf(instance, "bench-%02x%02x%02x%02x%02x%02x", random[10], random[11], random[12], random[13], random[14], random[15]);
    sprintf(told, "{\"name\":\"%s\",\"image\":\"nginx:latest\",\"status\":\"STARTING\"}", instance);
    const char *who[] = {(const char *)digest, "instance:create", address}, *quota[] = {"1000000", "1000000000", "512"};
    const char *audit[] = {id, address, told}, *event[] = {id, told}, *made[] = {id, instance};
    int lengths[] = {32, 0, 0}, formats[] = {1, 0, 0};
    PGresult *rows = NULL;
    if (simple(db, "begin") && ask(db, AUTHENTICATE, 3, who, lengths, formats) && ask(db, QUOTA, 3, quota, NULL, NULL)
        && ask(db, AUDIT, 3, audit, NULL, NULL) && ask(db, EVENT, 2, event, NULL, NULL) && ask(db, ENQUEUE, 1, event, NULL, NULL))
        rows = one(db, INSERT, 2, made, NULL, NULL);
    int ok = rows && PQntuples(rows) == 1;
    if (!simple(db, ok ? "commit" : "rollback") || !ok) fail(out);
    else {
        ask(db, NOTIFY, 0, NULL, NULL, NULL);
        FCGX_FPrintF(
            out, "Status: 201 Created\r\nContent-Type: application/json\r\n\r\n{\"data\":{\"id\":\"%s\",\"name\":\"%s\",\"image\":\"%s\",\"status\":\"%s\","
            "\"instance_type\":\"%s\",\"ports\":\"%s\",\"created_at\":\"%s\",\"updated_at\":\"%s\"}}",
            PQgetvalue(rows, 0, 0), PQgetvalue(rows, 0, 1), PQgetvalue(rows, 0, 2), PQgetvalue(rows, 0, 3), PQgetvalue(rows, 0, 4),
            PQgetvalue(rows, 0, 5), PQgetvalue(rows, 0, 6), PQgetvalue(rows, 0, 7));
    }
    PQclear(rows);
}

static void messages(PGconn *db, const unsigned char *digest, const char *address, const char *method, const char *path, FCGX_Stream *out) {
    PGresult *rows;
    if (!strcmp(method, "POST")) {
        const char *values[] = {queue, "payload-data"};
        rows = both(db, digest, "queue:send", address, SEND, 2, values);
        if (PQntuples(rows) != 1) fail(out);
        else
            FCGX_FPrintF(
                out, "Status: 201 Created\r\nContent-Type: application/json\r\n\r\n{\"data\":{\"id\":\"%s\",\"sent_at\":\"%s\"}}",
                PQgetvalue(rows, 0, 0), PQgetvalue(rows, 0, 1));
    } else if (!strcmp(method, "GET")) {
        const char *values[] = {queue};
        rows = both(db, digest, "queue:receive", address, RECEIVE, 1, values);
        if (PQntuples(rows) != 1) fail(out);
        else if (PQgetisnull(rows, 0, 0)) FCGX_PutS("Content-Type: application/json\r\n\r\n{\"data\":[]}", out);
        else
            FCGX_FPrintF(
                out, "Content-Type: application/json\r\n\r\n{\"data\":[{\"id\":\"%s\",\"body\":\"%s\",\"attributes\":%s,\"receipt_handle\":\"%s.%s\","
                "\"receive_count\":%s,\"sent_at\":\"%s\",\"first_received_at\":\"%s\",\"visible_until\":\"%s\"}]}",
                PQgetvalue(rows, 0, 0), PQgetvalue(rows, 0, 1), PQgetvalue(rows, 0, 2), PQgetvalue(rows, 0, 0), PQgetvalue(rows, 0, 3),
                PQgetvalue(rows, 0, 4), PQgetvalue(rows, 0, 5), PQgetvalue(rows, 0, 6), PQgetvalue(rows, 0, 7));
    } else {
        char id[37] = "", receipt[37] = "";
        const char *handle = strrchr(path, '/') + 1, *values[] = {id, queue, receipt};
        if (strlen(handle) == 73) memcpy(id, handle, 36), memcpy(receipt, handle + 37, 36);
        rows = both(db, digest, "queue:receive", address, DELETE, 3, values);
        if (PQntuples(rows) != 1 || *PQgetvalue(rows, 0, 0) != 't') fail(out);
        else FCGX_PutS("Content-Type: application/json\r\n\r\n{\"message\":\"Message deleted\"}", out);
    }
    PQclear(rows);
}

static void *begin(void) {
    queue = getenv("PEER_QUEUE");
    PGconn *db = PQconnectdb(getenv("PEER_DATABASE"));
    for (int statement = 0; statement < STATEMENTS; statement++) {
        char name[8];
        name_of(statement, name);
        prepare(db, name, texts[statement]);
    }
    return db;
}

static void answer(void *db, FCGX_Request *request) {
    const char *address = FCGX_GetParam("REMOTE_ADDR", request->envp), *path = FCGX_GetParam("SCRIPT_NAME", request->envp);
    unsigned char digest[32];
    char body[256];
    hash(request, digest);
    while (FCGX_GetStr(body, sizeof body, request->in) > 0) {}
    if (!strcmp(path, "/same/instances")) create(db, digest, address, request->out);
    else messages(db, digest, address, FCGX_GetParam("REQUEST_METHOD", request->envp), path, request->out);
}
