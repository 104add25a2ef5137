"""Programs that run under a whole seccomp profile, as a container runtime or systemd sets it.

``Profile`` compiles one, as container runtimes write it (JSON) or of names only, for this
machine's architecture.  The C library's headers tell the numbers of system calls; what they do
not know yet is left out, as libseccomp does it.
"""
from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import struct
import subprocess

# <linux/seccomp.h>, <linux/audit.h>, <linux/bpf_common.h>
ALLOW, ERRNO, KILL_PROCESS = 0x7fff0000, 0x00050000, 0x80000000
ARCHITECTURES = {'x86_64': 0xc000003e, 'aarch64': 0xc00000b7}
LOAD, AND, JUMP_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16          # offsets into struct seccomp_data
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2           # of prctl

_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def numbers() -> dict[str, int]:
    """Of all system calls."""
    told = subprocess.run(['gcc', '-E', '-dM', '-include', 'sys/syscall.h', '-x', 'c', '/dev/null'],
                          check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in
            re.findall(r'^#define __NR_(\w+) (\d+)$', told, re.MULTILINE)}


def _compare(argument: dict) -> list[tuple[int, int]]:
    """A mask and a value of each half of an argument, the lower one first."""
    value, other = argument['value'], argument.get('valueTwo', 0)
    mask = (1 << 64) - 1
    if argument['op'] == 'SCMP_CMP_MASKED_EQ':
        mask, value = value, other
    else:
        assert argument['op'] == 'SCMP_CMP_EQ', argument
    return [(mask >> shift & 0xffffffff, value >> shift & 0xffffffff) for shift in (0, 32)]


def _rule(number: int, arguments: list[dict]) -> list[tuple[int, int, int, int]]:
    """Allow that call, if its arguments are these; the number is loaded, before and after."""
    tests = [(LOAD, AND, JUMP_EQUAL)] * 2 * len(arguments)
    left = 3 * len(tests) + 1                       # instructions until the number is loaded again
    code = [(JUMP_EQUAL, 0, left + bool(tests), number)]
    for argument in arguments:
        for half, (mask, value) in enumerate(_compare(argument)):
            left -= 3
            code += [(LOAD, 0, 0, ARGUMENTS + 8 * argument['index'] + 4 * half),
                     (AND, 0, 0, mask), (JUMP_EQUAL, 0, left, value)]
    code.append((RETURN, 0, 0, ALLOW))
    return code + [(LOAD, 0, 0, NUMBER)] * bool(tests)


class Profile:
    """A filter that allows what is named, and answers an errno to everything else."""

    def __init__(self, rules: list[dict], error: int) -> None:
        code = [(LOAD, 0, 0, ARCHITECTURE),
                (JUMP_EQUAL, 1, 0, ARCHITECTURES[platform.machine()]),
                (RETURN, 0, 0, KILL_PROCESS),
                (LOAD, 0, 0, NUMBER)]
        for rule in rules:
            assert rule['action'] == 'SCMP_ACT_ALLOW', rule
            for name in rule['names']:
                if name in numbers():
                    code += _rule(numbers()[name], rule.get('args', []))
        code.append((RETURN, 0, 0, ERRNO | error))
        self._code = ctypes.create_string_buffer(
            b''.join(struct.pack('HBBI', *line) for line in code))
        self._program = ctypes.create_string_buffer(
            struct.pack('HxxxxxxP', len(code), ctypes.addressof(self._code)))

    @classmethod
    def of(cls, document: dict) -> Profile:
        """One as Docker, Podman and Kubernetes read it."""
        assert document['defaultAction'] == 'SCMP_ACT_ERRNO'
        return cls(document['syscalls'], document['defaultErrnoRet'])

    @classmethod
    def of_names(cls, names: list[str], error: int = 1) -> Profile:
        """One as systemd's SystemCallFilter makes it."""
        return cls([{'names': names, 'action': 'SCMP_ACT_ALLOW'}], error)

    def enter(self) -> None:
        """This process is under it from now on, and whatever it becomes."""
        for arguments in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SECCOMP, FILTER, self._program)):
            if _libc.prctl(*arguments):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))

    def run(self, *command: object, **options) -> subprocess.CompletedProcess[str]:
        """Run a program under it, from its first system call on."""
        return subprocess.run([*map(str, command)], preexec_fn=self.enter, timeout=60, check=False,
                              capture_output=True, text=True, **options)
