"""Take from a process everything that decoding does not need. What is left can compute, read, answer and end.

A decoder that has been taken over runs its attacker's code, so the kernel must hold the line, not this program:

- Resource limits: address space, open files, no core dump, no file made longer, no further process or thread (to which
  the kernel does not hold root). The limit on processor time is set from outside, for each upload.
- `no_new_privs`: nothing that is run later gains rights.
- A filter of system calls, see seccomp(2).

The filter lists what is allowed, not what is forbidden: decoding needs some twenty of hundreds of calls, all of them on
memory or on descriptors that are open already. None takes a path or an address, so no file, network or process is in
reach, whichever calls kernels will learn. Such a list breaks when a libc begins to use a newer call for an old purpose.
What is not on it is therefore answered as by a kernel that lacks it, and libc turns to the older call; libraries that
look for a file or try to start a thread go on without. Calls that no decoder makes by itself, however broken its input,
end the process, so that the attempt shows.

Landlock has nothing to add: opening by path and connecting, which it restricts, are not on the list.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterator
from fcntl import F_DUPFD_CLOEXEC
from mmap import PROT_EXEC

MAX_OPEN_FILES = 16

# System calls by the numbers of <asm/unistd.h>: on x86_64, on aarch64.
_ALLOWED = {
    "read": (0, 63),
    "lseek": (8, 62),
    "close": (3, 57),
    "fstat": (5, 80),
    "recvmsg": (47, 212),
    "sendmsg": (46, 211),
    "brk": (12, 214),
    "madvise": (28, 233),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "getpid": (39, 172),
    "gettid": (186, 178),
    # Where the kernel offers no way to read the clock without a call.
    "clock_gettime": (228, 113),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "rt_sigreturn": (15, 139),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# Allowed as long as the memory is not to be executed.
_MEMORY = {"mmap": (9, 222), "mprotect": (10, 226)}
# Allowed to duplicate a descriptor, as Python's mmap does.
_FCNTL = (72, 25)
_FATAL = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kill": (62, 129),
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
_SECCOMP = (317, 277)
# By platform.machine(): column in the tables above, name of the calling convention in <linux/audit.h>.
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

# Of <linux/prctl.h> and <linux/seccomp.h>.
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_ALLOW = 0x7FFF0000
_END_PROCESS = 0x80000000
_ANSWER = 0x00050000

# Instructions of classic BPF, of <linux/bpf_common.h>: load a word of the call's data, compare, return.
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
# Where the words stand in struct seccomp_data. An argument has 8 bytes, the lower half first on both machines.
_NUMBER_WORD, _MACHINE_WORD, _ARGUMENT_WORDS = 0, 4, (16, 24, 32, 40, 48, 56)


_libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(Exception):
    """System calls cannot be filtered: the kernel, or what surrounds the process, does not allow it."""


def limit_resources(memory_bytes: int) -> None:
    """Set the resource limits of this process, which then cannot be raised; `memory_bytes` is its address space."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def drop_standard_streams() -> None:
    """Have the standard streams lead nowhere: a terminal or a log is a way out."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def refuse_new_privileges() -> None:
    """Have nothing that this process runs later gain rights. Only then may anyone filter system calls."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")


def filter_system_calls() -> None:
    """Leave all threads of this process only the system calls of decoding, for good.

    Raises:
        SandboxError: That is not possible here; nothing has changed.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise SandboxError(f"there is no list of system calls for {machine}")
    column, convention = _MACHINES[machine]
    instructions = b"".join(_program(column, convention))
    program = _Program(len(instructions) // _INSTRUCTION.size, instructions)
    call = _SECCOMP[column], _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC
    if _libc.syscall(*map(ctypes.c_long, call), ctypes.byref(program)):
        raise SandboxError(f"the kernel refuses to filter system calls: {os.strerror(ctypes.get_errno())}")


class _Program(ctypes.Structure):
    """struct sock_fprog of <linux/filter.h>."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


# struct sock_filter of <linux/filter.h>: operation, instructions to skip if true and if false, operand.
_INSTRUCTION = struct.Struct("=HBBI")


def _program(column: int, convention: int) -> Iterator[bytes]:
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _MACHINE_WORD)
    # In another calling convention (32-bit code) the numbers mean other calls.
    yield _INSTRUCTION.pack(_IF_EQUAL, 1, 0, convention)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _END_PROCESS)
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _NUMBER_WORD)
    for numbers in _ALLOWED.values():
        yield from _answer_to(numbers[column], _ALLOW)
    for numbers in _MEMORY.values():
        yield from _answer_by_argument(numbers[column], 2, _IF_ANY_BIT, PROT_EXEC, _ANSWER | errno.EPERM, _ALLOW)
    yield from _answer_by_argument(_FCNTL[column], 1, _IF_EQUAL, F_DUPFD_CLOEXEC, _ALLOW, _ANSWER | errno.EPERM)
    for numbers in _FATAL.values():
        yield from _answer_to(numbers[column], _END_PROCESS)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _ANSWER | errno.ENOSYS)


def _answer_to(number: int, answer: int) -> Iterator[bytes]:
    """Yield a rule for one call; the number of the call is loaded, and stays so for the next rule."""
    yield _INSTRUCTION.pack(_IF_EQUAL, 0, 1, number)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, answer)


def _answer_by_argument(
    number: int, argument: int, test: int, operand: int, if_true: int, if_false: int
) -> Iterator[bytes]:
    """Yield a rule for one call that looks at the lower half of one of its arguments."""
    yield _INSTRUCTION.pack(_IF_EQUAL, 0, 4, number)
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _ARGUMENT_WORDS[argument])
    yield _INSTRUCTION.pack(test, 0, 1, operand)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, if_true)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, if_false)
