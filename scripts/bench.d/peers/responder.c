// The floor: the same work by hand, with libfcgi and libpq, in two plain round trips. responder SOCKET THREADS; the database is in $PEER_DATABASE.
// The caller by the hash of X-API-Key, then the caller's newest instances.
#include <fcgiapp.h>
#include <libpq-fe.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int listener;

static void prepare(PGconn *db, const char *name, const char *text) {
    PGresult *result = PQprepare(db, name, text, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fprintf(stderr, "%s", PQerrorMessage(db));
        exit(1);
    }
    PQclear(result);
}

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

static void *serve(void *unused) {
    (void)unused;
    FCGX_Request request;
    FCGX_InitRequest(&request, listener, 0);
    PGconn *db = PQconnectdb(getenv("PEER_DATABASE"));
    prepare(db, "who", "select u.id, u.role, k.id from api_keys k join users u on u.id = k.owner_id where k.key_hash = $1 and k.revoked_at is null");
    prepare(db, "list", "select id, name, image, status, instance_type, ports, created_at from instances where owner_id = $1 order by id desc limit 51");
    while (FCGX_Accept_r(&request) >= 0) {
        const char *key = FCGX_GetParam("HTTP_X_API_KEY", request.envp);
        unsigned char digest[32];
        SHA256((const unsigned char *)(key ? key : ""), key ? strlen(key) : 0, digest);
        const char *values[] = {(char *)digest};
        int lengths[] = {32}, formats[] = {1};
        PGresult *who = PQexecPrepared(db, "who", 1, values, lengths, formats, 0);
        if (PQntuples(who) != 1)
            FCGX_PutS("Status: 401 Unauthorized\r\nContent-Type: application/json\r\n\r\n{\"error\":\"unauthorized\"}", request.out);
        else
            list(db, request.out, PQgetvalue(who, 0, 0));
        PQclear(who);
        FCGX_Finish_r(&request);
    }
    return NULL;
}

int main(int count, char **words) {
    if (count != 3 || FCGX_Init() || (listener = FCGX_OpenSocket(words[1], 1024)) < 0) return 1;
    chmod(words[1], 0777);
    int threads = atoi(words[2]);
    pthread_t thread;
    for (int i = 0; i < threads; i++) pthread_create(&thread, NULL, serve, NULL);
    pthread_join(thread, NULL);
}
