#include <fcgiapp.h>
#include <grp.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

// Swift sees glibc without its GNU extensions; these are the ones in use, as its headers declare them.
int accept4(int, struct sockaddr *, socklen_t *, int);
int pipe2(int[2], int);
int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *, int);
static const short cloud_peer_closed = 0x2000;  // POLLRDHUP

// prctl is variadic, so Swift can't call it. Both return 0, or -1 with errno.
static inline int cloud_forbid_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
static inline int cloud_signal_on_parent_death(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }
