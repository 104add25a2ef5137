"""What is compared: the rows of the tables, and who is measured in each."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from uringloop.cli.bench import rows
from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.rows import NO_LOOP, Entrant, Group
from uringloop.cli.bench.zerocopy.namespace import ORDINARY, WIDE, Device

LARGEST = 65_435            # bytes of a datagram, as the kernel developers measured
PACKET = 1_200              # what QUIC and media programs send
TRAIN = 44 * PACKET         # bytes of a segmented send
TRAINS_A_CALL = 64          # where a program has a large file to send
# The baseline reads the error queue as often as the kernel's own test program does.
MSG_ZEROCOPY_BATCH = 32
BULK = 64                   # what a turn sends in bulk


@dataclass(frozen=True)
class Sender(Entrant):

    program: str = ''       # of C
    way: str = ''
    payload: str = 'bytes'
    together: int = 1
    size: int = LARGEST
    segment: int = 0


@dataclass(frozen=True)
class Row(rows.Row[Sender]):
    by: str = 'speed'


@dataclass(frozen=True)
class Sends(Group[Sender]):
    """Rows of one kind of datagram on one device (None: loopback)."""

    device: Device | None
    trains: bool            # whether a packet at the device may be several datagrams


def _loops(loops: Iterable[str], way: str, what: str, payload: str = 'bytes', *,
           together: int, size: int = LARGEST) -> list[Sender]:
    return [Sender(loop, what, way=way, payload=payload, together=together, size=size)
            for loop in loops]


def _own(way: str, what: str, payload: str, together: int, *,
         size: int = LARGEST, segment: int = 0) -> Sender:
    return Sender(OWN, what, way=way, payload=payload, together=together, size=size,
                  segment=segment)


def _ring(memory: str, together: int, when: str = 'bulk') -> Sender:
    return Sender('C', f'io_uring, {memory} memory', program='ring_send', together=together,
                  way=f'{"registered" if memory == "registered" else "zerocopy"}-{when}')


MSG_ZEROCOPY = Sender('C', f'error queue after {MSG_ZEROCOPY_BATCH}', program='socket_send',
                      way='zerocopy', together=MSG_ZEROCOPY_BATCH)
COPIED_TRAINS = Sender('C', 'copied trains', program='socket_send', way='copy', together=8,
                       size=TRAIN, segment=PACKET)
IN_BULK = 'notifications taken as they come (RFC: without flush, {}x)'
ONE_BY_ONE = 'each notification awaited before the next request (RFC: with flush, 1.88x)'
EIGHT_BY_EIGHT = 'those of 8 requests awaited before the next 8 (RFC: with flush, 2.31x)'


def _table(peers: list[str]) -> tuple[Row, ...]:
    """The rows of the RFC that brought zero-copy sends to io_uring, and one of bulk."""
    copying = Sender('C', 'send()', program='socket_send', way='copy', together=8)
    best = _ring('registered', 8)
    return (
        Row('copy', 'copied', 'RFC: msg_zerocopy, copying, 0.38x', copying, (
            Sender(NO_LOOP, 'socket.send', way='send', together=8),
            _own('sendto', 'sendto(bytearray)', 'bytearray', 8),
            *_loops(peers, 'sendto', 'sendto(bytes)', together=8),
        )),
        Row('msg-zerocopy', 'MSG_ZEROCOPY',
            'RFC: msg_zerocopy -z, the baseline, 1x; no loop has it', MSG_ZEROCOPY, (
                Sender('C', 'error queue after each', program='socket_send', way='zerocopy'),
                Sender(NO_LOOP, f'socket.send, {MSG_ZEROCOPY_BATCH} at a time',
                       way='send_zerocopy', together=MSG_ZEROCOPY_BATCH),
            )),
        Row('zc-1', 'zero-copy, 1 request a system call', IN_BULK.format(2.03),
            _ring('registered', 1), (
                _ring('ordinary', 1),
                _own('sock_sendto', 'sock_sendto(bytes)', 'bytes', 8),
                _own('sock_sendto', 'sock_sendto(lease)', 'leases', 8),
                *_loops(peers, 'sock_sendto', 'sock_sendto(bytes)', together=8),
            )),
        Row('zc-1-each', 'zero-copy, 1 request a system call', ONE_BY_ONE,
            _ring('registered', 1, 'each'), (
                _ring('ordinary', 1, 'each'),
                _own('zerocopy_each', 'sendto_zerocopy', 'memory', 8),
                _own('zerocopy_each', 'sendto_zerocopy, registered', 'registered', 8),
            )),
        Row('zc-8', 'zero-copy, 8 requests a system call', IN_BULK.format(2.44), best, (
            _ring('ordinary', 8),
            _own('sendto', 'sendto(bytes)', 'bytes', 8),
            _own('sendto', 'sendto(lease)', 'leases', 8),
            _own('sendto_many', 'sendto_many(leases)', 'leases', 8),
            *_loops(peers, 'sendto', 'sendto(bytes)', together=8),
        )),
        Row('zc-8-each', 'zero-copy, 8 requests a system call', EIGHT_BY_EIGHT,
            _ring('registered', 8, 'each'), (
                _ring('ordinary', 8, 'each'),
                _own('zerocopy_bulk', 'sendto_zerocopy', 'memory', 8),
                _own('zerocopy_bulk', 'sendto_zerocopy, registered', 'registered', 8),
                _own('many_zerocopy', 'sendto_many_zerocopy, registered', 'registered', 8),
            )),
        Row(f'zc-{BULK}', f'zero-copy, {BULK} datagrams a turn of the loop',
            'not in the RFC; C: 8 requests a system call', best, (
                _own('sendto', 'sendto(bytes)', 'bytes', BULK),
                _own('sendto', 'sendto(lease)', 'leases', BULK),
                _own('sendto_many', 'sendto_many(leases)', 'leases', BULK),
                _own('zerocopy_bulk', 'sendto_zerocopy, registered', 'registered', BULK),
                _own('many_zerocopy', 'sendto_many_zerocopy, registered', 'registered', BULK),
                *_loops(peers, 'sendto', 'sendto(bytes)', together=BULK),
            )),
    )


def _trains(peers: list[str]) -> tuple[Row, ...]:
    """An ordinary network, where zero-copy wants segmented sends (UDP_SEGMENT)."""
    limit = Sender('C', 'zero-copy trains, registered', program='ring_send',
                   way='registered-bulk', together=8, size=TRAIN, segment=PACKET)
    return (
        Row('trains', 'one buffer leaves as 44 datagrams', 'UDP_SEGMENT', limit, (
            COPIED_TRAINS,
            _own('zerocopy_bulk', 'sendto_zerocopy', 'memory', 8,
                 size=TRAIN, segment=PACKET),
            _own('zerocopy_bulk', 'sendto_zerocopy, registered', 'registered', 8,
                 size=TRAIN, segment=PACKET),
            _own('zerocopy_bulk', f'the same, {TRAINS_A_CALL} trains a call', 'registered', 8,
                 size=TRAINS_A_CALL * TRAIN, segment=PACKET),
        )),
        Row('slices', f'slices of one large bytes, {BULK} a turn',
            'as programs do that send a file', limit, (
                _own('sendto', 'sendto(slice)', 'slices', BULK, size=PACKET),
                _own('sendto_many', 'sendto_many(slices)', 'slices', BULK, size=PACKET),
                *_loops(peers, 'sendto', 'sendto(slice)', 'slices', together=BULK, size=PACKET),
            )),
        Row('packets', f'separate bytes, {BULK} a turn', 'as programs do that make packets',
            COPIED_TRAINS, (
                Sender('C', 'send()', program='socket_send', way='copy', together=8, size=PACKET),
                Sender(NO_LOOP, 'socket.send', way='send', together=BULK, size=PACKET),
                _own('sendto', 'sendto(bytes)', 'bytes', BULK, size=PACKET),
                _own('sendto_many', 'sendto_many(bytes)', 'bytes', BULK, size=PACKET),
                *_loops(peers, 'sendto', 'sendto(bytes)', together=BULK, size=PACKET),
            )),
    )


def _loopback(peers: list[str]) -> tuple[Row, ...]:
    return (
        Row('loopback', f'{BULK} datagrams a turn of the loop',
            'the kernel copies, whatever it is asked: no benefit can show here',
            Sender('C', 'send()', program='socket_send', way='copy', together=8), (
                _own('sendto', 'sendto(bytes)', 'bytes', BULK),
                _own('zerocopy_bulk', 'sendto_zerocopy', 'memory', BULK),
                *_loops(peers, 'sendto', 'sendto(bytes)', together=BULK),
            )),
    )


def groups(peers: list[str]) -> list[Sends]:
    """All there is to measure, next to these loops."""
    return [
        Sends('rfc', f'{LARGEST:,} bytes a datagram, MTU {WIDE.mtu:,}', MSG_ZEROCOPY,
              'MSG_ZEROCOPY', _table(peers), WIDE, False),
        Sends('mtu1500', f'{PACKET:,} bytes a datagram, MTU {ORDINARY.mtu:,}', COPIED_TRAINS,
              'C copied', _trains(peers), ORDINARY, True),
        Sends('loopback', f'{LARGEST:,} bytes a datagram, to the same machine', None, '',
              _loopback(peers), None, False),
    ]
