"""What the facts mean: what is short, and what cures it."""
from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from uringloop.cli.doctor.interfaces import Interface
from uringloop.cli.doctor.path import PathFacts, Try
from uringloop.cli.doctor.ring import Ring
from uringloop.cli.doctor.system import System
from uringloop.options import SWITCHES
from uringloop.ring.features import FEATURES

# The kernel's defaults: of RLIMIT_MEMLOCK from 5.16 on, of rmem_max and wmem_max until 6.17.
# Less than that somebody has chosen.
MEMLOCK = 8 << 20
SOCKET_BUFFER = 212_992
ENTRIES = 256                               # of a ring, as the loop asks for

CALLS = 'io_uring_setup, io_uring_enter and io_uring_register'
# How a filter is changed, where it is known who has set it.
FILTERS = {
    'Docker': '--security-opt seccomp=FILE',
    'Podman': '--security-opt seccomp=FILE',
    'Kubernetes': 'seccompProfile with type: Localhost',
}
# What a program may set, and what is of builds and of this project's own tests.
VARIABLES = ('URINGLOOP_FEATURES', *SWITCHES)
NOT_OF_LOOPS = {'URINGLOOP_' + name for name in (
    'BUILD', 'EXAMPLES', 'SANITIZE', 'SIMULATED', 'STATIC', 'TRACE')}
ELSEWHERE = "a container's seccomp profile, or SystemCallFilter of a unit"

Level = str                                 # 'blocked' or 'limited'


@dataclass(frozen=True)
class Finding:
    """Something that is short, in a line: the problem and its cure."""

    level: Level
    problem: str
    cure: str

    def __str__(self) -> str:
        return f'{self.problem}: {self.cure}'


@dataclass(frozen=True)
class Facts:
    """All that was gathered."""

    system: System
    ring: Ring
    interfaces: list[Interface]
    path: PathFacts | None


def findings(facts: Facts) -> list[Finding]:
    """What is short, the worst first."""
    found = [*_of_environment(facts.system), *_of_ring(facts.ring, facts.system),
             *_of_limits(facts.system), *_of_interfaces(facts.interfaces), *_of_path(facts)]
    return sorted(found, key=lambda finding: finding.level != 'blocked')


def status(found: list[Finding]) -> str:
    """'healthy', 'limited' (something is copied, or small) or 'blocked' (io_uring is not used)."""
    levels = {finding.level for finding in found}
    return next((level for level in ('blocked', 'limited') if level in levels), 'healthy')


def disabled(system: System) -> bool:
    """Whether io_uring is switched off as a whole."""
    return system.environment.get('URINGLOOP_DISABLE') == '1'


def _of_environment(system: System) -> Iterator[Finding]:
    if system.refused:
        yield Finding('blocked', 'new_event_loop raises ValueError', system.refused)
    elif disabled(system) and system.environment.get('URINGLOOP_REQUIRE') == '1':
        yield Finding('blocked', 'URINGLOOP_DISABLE=1 switches off what URINGLOOP_REQUIRE=1 '
                      'requires, so new_event_loop raises UringUnavailableError',
                      'unset one of them')
    elif disabled(system):
        yield Finding('blocked', "URINGLOOP_DISABLE=1: programs run on asyncio's own loop",
                      'unset it')
    elif system.features:
        yield Finding('limited', f'URINGLOOP_FEATURES={system.features} switches off what the '
                      'kernel may have', 'unset it')
    for name in system.environment:
        if name not in VARIABLES and name not in NOT_OF_LOOPS:
            yield Finding('limited', f'{name} is no variable of uringloop',
                          f'choose from {", ".join(VARIABLES)}')


def _switched_off(system: System) -> set[str]:
    off = {item.strip()[1:] for item in system.features.split(',')}
    return {*FEATURES} if 'all' in off else off


def _of_ring(ring: Ring, system: System) -> Iterator[Finding]:
    if ring.facts is None:
        yield _blocked(ring, system)
        return
    facts = ring.facts
    off = _switched_off(system)         # which tells nothing of the kernel
    lacking = facts.lacking_requests + [
        flag for flag in facts.lacking_flags if flag.lower() not in off]
    if lacking:
        yield Finding('limited', 'the kernel lacks ' + ', '.join(lacking),
                      'use Linux 6.1 or newer')
    if not facts.reports_copies and 'report_usage' not in off:
        yield Finding('limited', 'the kernel does not tell whether it has copied',
                      'use Linux 6.2 or newer')
    if facts.entries < ENTRIES:
        yield Finding('limited', f'memory was there for {facts.entries} submissions only',
                      'raise the limit of locked memory (ulimit -l) or close other rings')


def _blocked(ring: Ring, system: System) -> Finding:
    """Why there is no ring: EPERM is the sysctl's and seccomp's, so that is looked up."""
    if ring.errno == errno.EPERM and system.switched_off:
        return Finding('blocked', *system.switched_off)
    if system.container == 'gVisor':
        return Finding('blocked', 'gVisor has no such io_uring', 'use another runtime, as runc')
    # Of EPERM and ENOSYS both a filter may be the cause; without one the error's own words tell.
    killed = ring.errno is None
    if killed or (ring.errno in (errno.EPERM, errno.ENOSYS) and system.seccomp == 'filter'):
        where = FILTERS.get(system.container, ELSEWHERE)
        return Finding('blocked', 'a seccomp filter forbids io_uring' + ' and kills' * killed,
                       f'allow {CALLS} in it ({where}; see docs/deploy.md)')
    problem, _, cure = ring.reason.partition('; ')
    return Finding('blocked', problem, cure or 'see io_uring_setup(2)')


def _of_limits(system: System) -> Iterator[Finding]:
    if system.memlock_counts and system.memlock is not None and system.memlock < MEMLOCK:
        yield Finding('limited', f'{size(system.memlock)} of memory may be locked, beyond which '
                      'zero-copy sends and pools copy',
                      'ulimit -l unlimited, LimitMEMLOCK=infinity or --ulimit memlock=-1')
    for name, what in (('net.core.rmem_max', 'received'), ('net.core.wmem_max', 'sent')):
        value = system.sysctls[name]
        if value is not None and value < SOCKET_BUFFER:
            yield Finding('limited', f'{name} is {size(value)}: so much a socket may have '
                          f'{what} and waiting', f'sysctl {name}={4 << 20} on the machine itself')


def _of_interfaces(interfaces: list[Interface]) -> Iterator[Finding]:
    outward = [each for each in interfaces if each.up and not each.internal]
    curable = [each for each in outward if each.can_be_switched_on]
    for each in curable:
        words = ' and '.join(each.can_be_switched_on).replace('scatter_gather', 'scatter/gather')
        options = ' '.join({'scatter_gather': 'sg on', 'checksum': 'tx on'}[feature]
                           for feature in each.can_be_switched_on)
        yield Finding('limited', f'{each.name}: {words} off, so the kernel copies all sends',
                      f'ethtool -K {each.name} {options}')
    if interfaces and not curable and all(each.copies for each in outward):
        yield Finding('limited', 'no interface that is up sends without copying',
                      "use one with scatter/gather and checksum offload; in a container "
                      "the machine's (--network host, hostNetwork: true)")


def _of_path(facts: Facts) -> Iterator[Finding]:
    path = facts.path
    if path is None:
        return
    # This machine itself is always copied to: nothing is short there.
    copied = [] if path.local else [
        each for each in path.tries if each.copied and not each.problem and fits(path, each)]
    if copied:
        yield Finding('limited', f'the way to {path.destination} copies '
                      + ', '.join(each.what for each in copied), _why_copied(facts, path))
    for problem in dict.fromkeys(each.problem for each in path.tries if each.problem):
        first = next(each for each in path.tries if each.problem == problem)
        cure = ('raise the limit of locked memory (ulimit -l)' if first.copied
                else 'look at the route and at the next host')
        yield Finding('limited', f'{first.what} to {path.destination}: {problem}', cure)


def _why_copied(facts: Facts, path: PathFacts) -> str:
    for each in facts.interfaces:
        if each.name == path.interface and each.copies:
            return f'{each.name}: {each.copies}'
    return ('neither MTU nor device explain it; look for tunnels, bridges and packet captures '
            'that it passes')


def fits(path: PathFacts, each: Try) -> bool:
    """Whether one of its datagrams is within the MTU; else the kernel copies, as it has to."""
    return each.datagram <= path.room


def size(count: int) -> str:
    """Bytes in words."""
    for unit, shift in (('GiB', 30), ('MiB', 20), ('KiB', 10)):
        if count >= 1 << shift:
            return f'{count / (1 << shift):.4g} {unit}'
    return f'{count} bytes'
