// launch [-u UID] [-c CAPMASK] [-s] COMMAND...   starts a command with fewer rights:
// as another user, with a bounding set of capabilities, and (-s) under a seccomp filter that refuses
// perf events, bpf and reading the memory of others by system call, with no new privileges.
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REFUSE(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static int die(const char *what) {
    perror(what);
    exit(70);
}

static void seal(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        REFUSE(SYS_perf_event_open),
        REFUSE(SYS_bpf),
        REFUSE(SYS_process_vm_readv),
        REFUSE(SYS_process_vm_writev),
        REFUSE(SYS_setns),
        REFUSE(SYS_openat2),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        die("seccomp");
}

int main(int argc, char **argv) {
    int option, uid = -1, sealed = 0;
    unsigned long keep = ~0UL;
    while ((option = getopt(argc, argv, "+u:c:s")) != -1) {
        if (option == 'u')
            uid = atoi(optarg);
        else if (option == 'c')
            keep = strtoul(optarg, 0, 16);
        else if (option == 's')
            sealed = 1;
        else
            return 64;
    }
    for (int cap = 0; cap < 64; cap++)
        if (!(keep >> cap & 1) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            die("capability");
    if (uid >= 0 && (setgroups(0, 0) || setgid(uid) || setuid(uid)))
        die("user");
    if (sealed)
        seal();
    execvp(argv[optind], argv + optind);
    return die("exec");
}
