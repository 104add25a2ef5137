"""The facts, and what they mean, as text and as JSON."""
from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict

from uringloop.cli.doctor.advice import Facts, Finding, disabled, fits, size, status
from uringloop.cli.doctor.interfaces import Interface
from uringloop.cli.doctor.path import HEADERS, LONG, PathFacts, Try
from uringloop.cli.doctor.system import System

WIDTH = 16                      # of the names at the left
IPV4_HEADERS = min(HEADERS.values())

SUMMARIES = {
    'healthy': 'Nothing is short.',
    'limited': 'The loop works, and could do more:',
    'blocked': "io_uring cannot be had here; asyncio's own loop would be used:",
}


def to_json(facts: Facts, found: list[Finding]) -> str:
    """All facts by the names that they have here, and the findings."""
    ring = facts.ring
    return json.dumps({
        'status': status(found),
        'findings': [asdict(finding) for finding in found],
        'system': asdict(facts.system),
        'ring': {'available': ring.facts is not None, 'errno': ring.errno, 'reason': ring.reason,
                 **(ring.facts._asdict() if ring.facts else {})},
        'interfaces': [asdict(each) | {'internal': each.internal, 'copies': each.copies}
                       for each in facts.interfaces],
        'path': asdict(facts.path) if facts.path else None,
    }, indent=2) + '\n'


def to_text(facts: Facts, found: list[Finding]) -> str:
    """For people."""
    lines = [*_system(facts), '', *_table(facts.interfaces)]
    if facts.path is not None:
        lines += ['', *_path(facts.path)]
    lines += ['', _summary(facts, found), *(f'  - {finding}' for finding in found)]
    return '\n'.join(lines) + '\n'


def _summary(facts: Facts, found: list[Finding]) -> str:
    system = facts.system
    if system.refused:
        return 'No loop can be made in this environment:'
    if disabled(system):
        return 'io_uring is switched off in this environment:'
    return SUMMARIES[status(found)]


def _system(facts: Facts) -> Iterator[str]:
    system, ring = facts.system, facts.ring
    yield _line('versions', ', '.join(f'{name} {version}'
                                      for name, version in system.versions.items()))
    yield _line('kernel', f'Linux {system.kernel}')
    if ring.facts is None:
        yield _line('io_uring', 'no')
    else:
        yield _line('io_uring', f'yes, with {ring.facts.entries} submissions'
                    + (', restricted to what a loop asks for' if ring.facts.restricted else ''))
        yield _line('requests', ' '.join(ring.facts.requests))
        yield _line('ring flags', ' '.join(ring.facts.flags))
        yield _line('besides', '; '.join(_besides(facts)))
    yield _line('environment', ' '.join(
        shlex.join([f'{name}={value}']) for name, value in system.environment.items())
        or 'nothing that begins with URINGLOOP_')
    yield _line('sysctls', ', '.join(
        f'{name}={"unknown" if value is None else value}'
        for name, value in system.sysctls.items() if name.startswith('kernel.')))
    yield _line('seccomp', system.seccomp)
    yield _line('container', system.container or 'none that shows')
    yield _line('locked memory', _memlock(system))
    yield _line('socket buffers', ', '.join(
        f'{name.rpartition(".")[2]} {"unknown" if value is None else size(value)}'
        for name, value in system.sysctls.items() if name.startswith('net.')))


def _besides(facts: Facts) -> Iterator[str]:
    assert facts.ring.facts is not None
    for has, yes, no in (
            (facts.ring.facts.reports_copies, 'copies are reported', 'copies are not reported'),
            (facts.ring.facts.registered_trains, 'trains leave from registered memory',
             'trains from registered memory pin it at each send (until Linux 6.15)'),
            (facts.ring.facts.no_iowait, 'an idle loop counts as idle',
             'an idle loop counts as waiting for a disk (until Linux 6.15)')):
        yield yes if has else no


def _memlock(system: System) -> str:
    if not system.memlock_counts:
        return 'not counted (CAP_IPC_LOCK)'
    if system.memlock is None:
        return 'without limit'
    most = '' if system.memlock_most == system.memlock else (
        ', which may be raised' + (f' to {size(system.memlock_most)}' if system.memlock_most
                                   else ''))
    return f'{size(system.memlock)}, room for {system.memlock >> 16} x 64 KiB on the way{most}'


def _table(interfaces: list[Interface]) -> Iterator[str]:
    header = ('interface', 'mtu', 'scatter/gather', 'checksum', 'UDP segments', 'zero-copy')
    rows = [header] + [
        (each.name, str(each.mtu), _word(each.scatter_gather),
         _word(each.checksum_ipv4) if each.checksum_ipv4 == each.checksum_ipv6
         else f'{_word(each.checksum_ipv4)}, IPv6 {_word(each.checksum_ipv6)}',
         _word(each.udp_segmentation), _meaning(each)) for each in interfaces]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield '  '.join(cell.ljust(width)
                        for cell, width in zip(row, widths, strict=True)).rstrip()


def _meaning(each: Interface) -> str:
    """What an interface means for zero-copy."""
    if each.copies:
        return f'none, {each.copies}'
    room = each.mtu - IPV4_HEADERS
    words = f'trains; single datagrams to {room:,} bytes'
    if room < LONG:
        words += ' where asked for'
    return words if each.up else f'(down) {words}'


def _path(path: PathFacts) -> Iterator[str]:
    by = f' by {path.interface}' if path.interface else ''
    name = path.address if path.address == path.destination else (
        f'{path.destination} ({path.address})')
    yield f'to {name}{by}, MTU {path.mtu}:'
    width = max(len(each.what) for each in path.tries)
    for each in path.tries:
        yield f'  {each.what.ljust(width)}  {_outcome(path, each)}'


def _outcome(path: PathFacts, each: Try) -> str:
    if each.problem:
        return each.problem
    if each.copied is None:
        return 'sent; this kernel does not tell whether it copied'
    if each.copied:
        if path.local:
            return 'copied, for the receiver is on this machine'
        return 'copied' if fits(path, each) else 'copied, for it exceeds the MTU'
    return 'zero-copy'


def _line(name: str, value: str) -> str:
    return f'{name.ljust(WIDTH)}{value}'


def _word(value: bool | None) -> str:
    return 'unknown' if value is None else 'on' if value else 'off'
