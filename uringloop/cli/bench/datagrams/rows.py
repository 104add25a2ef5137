"""What ``bench datagrams`` compares: the loads, and who is measured under each."""
from __future__ import annotations

import os
from dataclasses import dataclass

from uringloop.cli.bench import rows
from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.rows import Entrant, Group

PACKET = 1_200              # bytes: what QUIC and media programs send
TRAIN = 44                  # of them, that leave as one
ECHO = 'echo'
PROCESSORS = sorted(os.sched_getaffinity(0))        # the first is the server's, the last the load's
WORKERS = (1, 2, 4)         # processes, of one port; as many as there are processors at most


@dataclass(frozen=True)
class Load:
    """What ``udp_load`` does."""

    way: str
    size: int
    sockets: int = 1
    window: int = 1         # under way on each socket; datagrams of a train


@dataclass(frozen=True)
class Server(Entrant):

    way: str                # of server.py or of udp_serve
    load: Load
    processes: int = 0      # that share a port, each with a load of its own; 0: one, of its own


@dataclass(frozen=True)
class Mix:
    """Datagrams of random sizes, to as many sockets in turn."""

    shortest: int
    longest: int
    sockets: int


@dataclass(frozen=True)
class Sender(Entrant):

    way: str                # of udp_send; empty for a loop
    mix: Mix


Row = rows.Row[Entrant]


def _echo(name: str, size: int, sockets: int, window: int, peers: list[str]) -> Row:
    load = Load(ECHO, size, sockets, window)
    return Row(
        name, f'{size:,} bytes',
        f'{sockets} socket{"s" * (sockets > 1)}, {window} under way{" each" * (sockets > 1)}',
        None, (
            Server('C', 'recvfrom, sendto', 'echo', load),
            Server('C', 'recvmmsg, sendmmsg', 'echo-batch', load),
            Server(OWN, 'sendto', 'own-echo', load),
            *(Server(peer, 'sendto', 'echo', load) for peer in peers),
        ))


def _receive(name: str, title: str, note: str, load: Load, peers: list[str]) -> Row:
    limit = Server('C', 'recvmmsg, UDP_GRO', 'sink-gro', load)
    return Row(name, title, note, limit, (
        Server('C', 'recvmmsg', 'sink', load),
        Server(OWN, 'datagram_received', 'own-each', load),
        Server(OWN, 'datagrams_received', 'own-batches', load),
        Server(OWN, 'datagram_train_received', 'own-trains', load),
        Server(OWN, 'datagram_received, gro=False', 'own-each-no-gro', load),
        *(Server(peer, 'datagram_received', 'each', load) for peer in peers),
    ), by='cpu')


def _workers(processes: int, peers: list[str]) -> Row:
    load = Load(ECHO, 64, 32, 4)
    which = 'process and load' if processes == 1 else 'processes and loads'
    note = f'{processes} {which}, of {load.sockets} sockets, {load.window} under way each'
    if 2 * processes > len(PROCESSORS):
        note += f'; the loads have the same {len(PROCESSORS)} processors'
    return Row(f'workers-{processes}', f'{load.size} bytes', note, None, (
        Server('C', 'recvfrom, sendto', 'echo', load, processes),
        Server('C', 'recvmmsg, sendmmsg', 'echo-batch', load, processes),
        Server(OWN, 'sendto', 'own-echo', load, processes),
        *(Server(peer, 'sendto', 'echo', load, processes) for peer in peers),
    ))


def _mix(peers: list[str]) -> Row:
    mix = Mix(16, 1_400, 64)
    return Row('send-mix', f'{mix.shortest} to {mix.longest:,} bytes, at random',
               f'to {mix.sockets} sockets in turn', None, (
                   Sender('C', 'sendto', 'each', mix),
                   Sender('C', 'sendmmsg', 'batch', mix),
                   *(Sender(loop, 'sendto', '', mix) for loop in (OWN, *peers))))


def groups(peers: list[str]) -> list[Group[Entrant]]:
    """All there is to measure, next to these loops."""
    return [
        Group('echo', 'answers to datagrams', None, '', (
            _echo('echo-64', 64, 1, 32, peers),
            _echo('echo-1200', PACKET, 32, 1, peers),
            _echo('echo-16384', 16_384, 1, 8, peers),
            _echo('echo-60000', 60_000, 1, 4, peers),
            _echo('echo-64-alone', 64, 1, 1, peers),
        )),
        Group('receive', f'datagrams of {PACKET:,} bytes received', None, '', (
            _receive('receive-trains', f'in trains of {TRAIN}', 'sent by UDP_SEGMENT',
                     Load('trains', PACKET, window=TRAIN), peers),
            _receive('receive-singles', 'one by one', 'sent by send()',
                     Load('singles', PACKET), peers),
        )),
        Group('send', 'datagrams sent that are not alike', None, '', (_mix(peers),)),
        Group('workers', 'answers of processes that share a port (SO_REUSEPORT)', None, '', tuple(
            _workers(processes, peers) for processes in WORKERS
            if processes <= len(PROCESSORS))),
    ]
