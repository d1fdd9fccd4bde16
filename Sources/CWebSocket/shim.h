#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <stdint.h>
#include <wslay/wslay.h>

// As glibc declares it; Swift sees glibc without its GNU extensions.
int accept4(int, struct sockaddr *, socklen_t *, int);
