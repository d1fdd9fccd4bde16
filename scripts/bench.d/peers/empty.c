// What nginx and FastCGI cost alone: empty SOCKET THREADS answers every request with the same few bytes.
#include <fcgiapp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

static int listener;

static void *serve(void *unused) {
    (void)unused;
    FCGX_Request request;
    FCGX_InitRequest(&request, listener, 0);
    while (FCGX_Accept_r(&request) >= 0) {
        FCGX_PutS("Content-Type: application/json\r\n\r\n{\"status\":\"ok\"}", request.out);
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
