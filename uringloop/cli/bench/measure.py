"""All senders take turns, each time in a new process, and what arrives is compared."""
from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import uringloop
from uringloop.cli.bench import results
from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.progress import Progress
from uringloop.cli.bench.rows import NO_LOOP, Group, Sender
from uringloop.cli.bench.sender import GRACE, Job

PORT = 9
MISSING = 3                 # the exit status of C where the kernel does not offer it
LOOPBACK = '127.0.0.1'
ENDINGS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
SO_MEMINFO = 55
SK_MEMINFO_DROPS = 8        # its place among them
ROOT = str(Path(uringloop.__file__).parent.parent)


class SenderError(Exception):
    """A sender has failed: its last line."""


class MissingError(Exception):
    """There is no such sender here, and why."""


@dataclass(frozen=True)
class Plan:
    """How long, how often, from how much memory; the C programs, and why others are missing."""

    seconds: float
    rounds: int
    memory: int
    programs: dict[str, Path]
    missing: dict[str, str]


class _Sink:
    """A socket on loopback that nobody reads: the kernel counts what it drops."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.address, self.port = sock.getsockname()

    def counted(self) -> int:
        dropped = struct.unpack_from('=9I', self.sock.getsockopt(
            socket.SOL_SOCKET, SO_MEMINFO, 64))[SK_MEMINFO_DROPS]
        queued = 0
        try:
            while True:
                self.sock.recv(1)
                queued += 1
        except BlockingIOError:
            return int(dropped) + queued


@contextmanager
def _sink() -> Iterator[_Sink]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        sock.setblocking(False)
        yield _Sink(sock)


@contextmanager
def _started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A sender, which is gone when the with statement is."""
    process = None
    # Between its fork and our knowing of it, no signal may end us: it would stay.  It inherits
    # that, and is killed by what cannot be blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        try:
            # In a session of its own: Ctrl-C is for this process, which ends the sender.
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=environment, start_new_session=True)
        except OSError as error:
            raise SenderError(f'{error.filename}: {error.strerror}') from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield process
    finally:
        if process is not None:
            with process:           # which waits for it
                process.kill()


def _run(command: list[str], seconds: float) -> dict[str, Any]:
    """What a sender prints.  However this ends, the sender has ended too."""
    paths = [ROOT, *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)),
                   # A loop that is not ours must not be measured in its name.
                   'URINGLOOP_REQUIRE': '1'}
    with _started(command, environment) as process:
        try:
            out, errors = process.communicate(timeout=seconds + 2 * GRACE)
        except subprocess.TimeoutExpired:
            raise SenderError('it did not end') from None
    if process.returncode:
        said = errors.strip().splitlines() or [f'it ended with status {process.returncode}']
        raise (MissingError if process.returncode == MISSING else SenderError)(said[-1])
    sent: dict[str, Any] = json.loads(out)
    return sent


def _send(sender: Sender, plan: Plan, address: str, port: int) -> dict[str, Any]:
    if sender.side == 'C':
        if sender.program in plan.missing:
            raise MissingError(plan.missing[sender.program])
        return _run([str(plan.programs[sender.program]), sender.way, address, str(port),
                     str(sender.size), str(sender.segment), str(sender.together),
                     str(plan.memory), str(plan.seconds)], plan.seconds)
    job = Job(sender.side, sender.way, sender.payload, sender.together, sender.size,
              sender.segment, plan.memory, plan.seconds, address, port)
    return _run([sys.executable, '-m', 'uringloop.cli.bench.sender', json.dumps(asdict(job))],
                plan.seconds)


def difference(sent: dict[str, Any], packets: int, payload: int | None, trains: bool) -> str:
    """How what has arrived differs from what was sent; empty if it does not."""
    if payload is not None and payload != sent['bytes']:
        return f'{sent["bytes"]:,} bytes sent, {payload:,} arrived'
    if packets > sent['datagrams'] or (packets != sent['datagrams'] and not trains):
        return f'{sent["datagrams"]:,} datagrams sent, {packets:,} arrived'
    return ''


def sample(sender: Sender, plan: Plan, group: Group) -> results.Sample:
    """One measurement."""
    payload: int | None
    if group.device is None:
        with _sink() as sink:
            sent = _send(sender, plan, sink.address, sink.port)
            packets, payload = sink.counted(), None
    else:
        before = group.device.counted()
        sent = _send(sender, plan, group.device.address, PORT)
        packets, payload = (after - earlier for after, earlier in zip(
            group.device.counted(), before, strict=True))
    if reason := sent.pop('missing', ''):
        raise MissingError(reason)
    return results.Sample(**sent, packets=packets,
                          wrong=difference(sent, packets, payload, group.trains))


def run(groups: list[Group], absent: dict[str, str], plan: Plan) -> list[results.Group]:
    """A B C A B C: in each round everyone has a turn.

    ``absent`` tells of groups that cannot be measured, and why.
    """
    turns = {(group.name, sender): results.Measured(sender.side, sender.label)
             for group in groups if group.name not in absent
             for sender in group.senders}
    devices = {group.name: group for group in groups}
    with Progress(len(turns) * plan.rounds) as progress:
        for number in range(plan.rounds):
            for (name, sender), measured in turns.items():
                progress.step(f'round {number + 1} of {plan.rounds}, {name}: '
                              f'{measured.who} {sender.label}')
                if measured.missing:
                    continue
                try:
                    measured.samples.append(sample(sender, plan, devices[name]))
                except MissingError as error:
                    measured.missing = str(error)
                except SenderError as error:
                    measured.missing = f'failed: {error}'
                    # What other loops do wrong is for their makers to cure.
                    measured.failed = sender.side in ('C', NO_LOOP, OWN)
                    measured.samples.clear()
    return [_result(group, absent.get(group.name, ''), turns) for group in groups]


def _result(group: Group, missing: str,
            turns: dict[tuple[str, Sender], results.Measured]) -> results.Group:
    """The same sender may stand in several rows, and be the limit in some."""
    rows = []
    for row in group.rows:
        senders = [replace(turns[group.name, sender], limit=sender is row.limit)
                   for sender in row.senders if not missing]
        rows.append(results.Row(row.name, row.title, row.note, senders))
    baseline = None if group.baseline is None else turns.get((group.name, group.baseline))
    return results.Group(group.name, group.title, group.baseline_name, missing, baseline, rows)
