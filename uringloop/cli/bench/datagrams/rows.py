"""What ``bench datagrams`` compares: the loads, and who is measured under each."""
from __future__ import annotations

from dataclasses import dataclass

from uringloop.cli.bench import rows
from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.rows import Entrant, Group

PACKET = 1_200              # bytes: what QUIC and media programs send
TRAIN = 44                  # of them, that leave as one
ECHO = 'echo'


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


Row = rows.Row[Server]


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


def groups(peers: list[str]) -> list[Group[Server]]:
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
    ]
