// What the peers in C share: PROGRAM SOCKET THREADS listens there, and each thread runs `answer` for one request after the other, with what `begin`
// gave it once, such as a connection to the database.
#include <fcgiapp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

static void *begin(void);
static void answer(void *own, FCGX_Request *request);

static int listener;

static void *serve(void *unused) {
    (void)unused;
    void *own = begin();
    FCGX_Request request;
    FCGX_InitRequest(&request, listener, 0);
    while (FCGX_Accept_r(&request) >= 0) {
        answer(own, &request);
        FCGX_Finish_r(&request);
    }
    return NULL;
}

int main(int count, char **words) {
    if (count != 3 || FCGX_Init() || (listener = FCGX_OpenSocket(words[1], 1024)) < 0) return 1;
    chmod(words[1], 0777);
    pthread_t thread;
    for (int i = 0; i < atoi(words[2]); i++) pthread_create(&thread, NULL, serve, NULL);
    pthread_join(thread, NULL);
}
