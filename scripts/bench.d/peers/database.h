// What those of them share that ask a database, which is in $PEER_DATABASE.
#include <libpq-fe.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "frame.h"

static void prepare(PGconn *db, const char *name, const char *text) {
    PGresult *result = PQprepare(db, name, text, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fprintf(stderr, "%s", PQerrorMessage(db));
        exit(1);
    }
    PQclear(result);
}

// Of the caller's key.
static void hash(const FCGX_Request *request, unsigned char digest[32]) {
    const char *key = FCGX_GetParam("HTTP_X_API_KEY", request->envp);
    SHA256((const unsigned char *)(key ? key : ""), key ? strlen(key) : 0, digest);
}
