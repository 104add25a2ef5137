"""One measurement of one sender: what it says is compared with what arrives."""
from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from uringloop.cli.bench import process, results, turns
from uringloop.cli.bench.turns import Plan
from uringloop.cli.bench.zerocopy import namespace
from uringloop.cli.bench.zerocopy.namespace import NamespaceError
from uringloop.cli.bench.zerocopy.rows import Sender, Sends
from uringloop.cli.bench.zerocopy.sender import Job

PORT = 9
LOOPBACK = '127.0.0.1'
SO_MEMINFO = 55
SK_MEMINFO_DROPS = 8        # its place among them


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


def _send(sender: Sender, plan: Plan, address: str, port: int) -> dict[str, Any]:
    if sender.side == 'C':
        command = [plan.program(sender.program), sender.way, address, str(port),
                   str(sender.size), str(sender.segment), str(sender.together),
                   str(plan.memory), str(plan.seconds)]
    else:
        command = process.python('zerocopy.sender', asdict(Job(
            sender.side, sender.way, sender.payload, sender.together, sender.size,
            sender.segment, plan.memory, plan.seconds, address, port)))
    with process.started(command) as running:
        return process.outcome(running, plan.seconds)


def difference(sent: dict[str, Any], packets: int, payload: int | None, trains: bool) -> str:
    """How what has arrived differs from what was sent; empty if it does not."""
    if payload is not None and payload != sent['bytes']:
        return f'{sent["bytes"]:,} bytes sent, {payload:,} arrived'
    if packets > sent['datagrams'] or (packets != sent['datagrams'] and not trains):
        return f'{sent["datagrams"]:,} datagrams sent, {packets:,} arrived'
    return ''


def sample(sender: Sender, plan: Plan, group: Sends) -> results.Sent:
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
    return results.Sent(**sent, packets=packets,
                        wrong=difference(sent, packets, payload, group.trains))


def run(groups: list[Sends], plan: Plan) -> list[results.Group]:
    """All of them, in a network of this process's own."""
    absent = _network(groups)
    # All that is measured is born on this processor; the others are the system's.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return turns.take(groups, absent, plan, lambda group, sender: sample(sender, plan, group))


def _network(groups: list[Sends]) -> dict[str, str]:
    """Move into a namespace and make the devices; which groups cannot be measured, and why."""
    devices = [group.device for group in groups if group.device is not None]
    try:
        namespace.enter()
        for device in devices:
            namespace.make(device)
    except NamespaceError as error:
        return {group.name: str(error) for group in groups if group.device is not None}
    return {}
