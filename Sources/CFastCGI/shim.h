#include <errno.h>
#include <fcgiapp.h>
#include <grp.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

// Swift sees glibc without its GNU extensions; these are the ones in use, as its headers declare them.
int accept4(int, struct sockaddr *, socklen_t *, int);
int pipe2(int[2], int);
int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *, int);
static const short cloud_peer_closed = 0x2000;  // POLLRDHUP

// prctl is variadic, so Swift can't call it. Both return 0, or -1 with errno.
static inline int cloud_forbid_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
static inline int cloud_signal_on_parent_death(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }

// Nice 0, later and as any user; of the calling thread, which Linux means by 0.
static inline int cloud_allow_usual_priority(void) {
    struct rlimit limit = {20, 20};
    return setrlimit(__RLIMIT_NICE, &limit);
}
static inline int cloud_set_priority(int nice) { return setpriority(PRIO_PROCESS, 0, nice); }

// A descriptor travels between processes beside one byte. Both return -1 with errno; the second one 0 at the end, as no descriptor is that low.
static inline int cloud_send_descriptor(int channel, int descriptor) {
    char byte = 0, space[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec content = {&byte, 1};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
    return sendmsg(channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -1;
}

static inline int cloud_receive_descriptor(int channel) {
    char byte, space[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec content = {&byte, 1};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
    ssize_t count = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count <= 0) return (int)count;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (!rights || rights->cmsg_type != SCM_RIGHTS || rights->cmsg_len != CMSG_LEN(sizeof(int))) {
        errno = EMFILE;  // what has no place here is dropped by the kernel
        return -1;
    }
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(rights), sizeof(int));
    return descriptor;
}
