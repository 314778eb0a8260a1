"""The system calls that a serving daemon makes, found with strace(1) in every plane under load.

Names that an architecture or a libseccomp does not have are skipped. Other calls fail with EPERM:
that is an error in the log, but does not end the daemon.
"""

from __future__ import annotations

from typing import Final

MEMORY: Final = ("brk", "madvise", "membarrier", "mlock", "mlock2", "mremap", "munlock", "munmap")
THREADS: Final = (
    *("arch_prctl", "exit", "exit_group", "futex", "futex_time64", "futex_waitv"),
    *(
        "get_robust_list",
        "getpid",
        "getppid",
        "gettid",
        "rseq",
        "sched_getaffinity",
        "sched_setaffinity",
    ),
    *("sched_yield", "set_robust_list", "set_tid_address", "wait4", "waitid"),
)
SIGNALS: Final = (
    *("restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn"),
    *("rt_sigtimedwait", "rt_sigtimedwait_time64", "sigaltstack", "sigreturn"),
)
TIME: Final = (
    *("clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64"),
    *("clock_nanosleep", "clock_nanosleep_time64", "gettimeofday", "nanosleep", "time"),
    *("timerfd_create", "timerfd_gettime", "timerfd_settime"),
)
READING: Final = (
    *("access", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fstat", "fstat64"),
    *("fstatat64", "fstatfs", "fstatfs64", "getcwd", "getdents", "getdents64", "_llseek", "lseek"),
    *("lstat", "lstat64", "newfstatat", "open", "openat", "openat2", "pread64", "preadv"),
    *("preadv2", "read", "readlink", "readlinkat", "readv", "stat", "stat64", "statfs"),
    *("statfs64", "statx"),
)
WRITING: Final = (
    # answers, the log, and memory; nothing here removes or renames files
    *("fdatasync", "fsync", "ftruncate", "ftruncate64", "memfd_create", "pwrite64", "pwritev"),
    *("pwritev2", "write", "writev"),
)
DESCRIPTORS: Final = (
    *("close", "close_range", "dup", "dup2", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait"),
    *("epoll_pwait2", "epoll_wait", "eventfd2", "fcntl", "fcntl64", "inotify_add_watch"),
    *("inotify_init1", "inotify_rm_watch", "_newselect", "pipe2", "poll", "ppoll"),
    *("ppoll_time64", "pselect6", "pselect6_time64", "select"),
)
SOCKETS: Final = (
    *("connect", "getpeername", "getsockname", "getsockopt", "recv", "recvfrom", "recvmsg"),
    *("send", "sendmsg", "sendto", "setsockopt", "shutdown"),
)
ABOUT_ITSELF: Final = (
    *("capget", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32"),
    *("getgroups", "getpgid", "getpgrp", "getrandom", "getresgid", "getresuid", "getrlimit"),
    *("getrusage", "getsid", "getuid", "getuid32", "sysinfo", "ugetrlimit", "uname"),
)
PRIVILEGED: Final = ("fsconfig", "fsmount", "fsopen", "umount", "umount2")
"""For a daemon with CAP_SYS_ADMIN: EROFS over the inputs, without a mount point; unmounting."""

ALLOWED: Final = (
    *(*MEMORY, *THREADS, *SIGNALS, *TIME, *READING, *WRITING, *DESCRIPTORS, *SOCKETS),
    *ABOUT_ITSELF,
)
