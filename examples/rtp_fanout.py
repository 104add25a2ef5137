"""Send one media stream to many receivers, without copying it for each of them.

    .venv/bin/python examples/rtp_fanout.py 192.0.2.10:5004 192.0.2.11:5004
    .venv/bin/python examples/rtp_fanout.py --local 8
    sudo .venv/bin/python examples/rtp_fanout.py --drop 100 --fps 0

A frame of the stream is a lease of a buffer pool: RTP packets of 1,200 bytes, side by side.  It
is filled once.  Then each receiver gets it by one ``sendto_zerocopy``, which makes a train of it:
the kernel takes the packets apart, and the network card reads all of them, for all receivers,
where they were written.  The lease is released when the last send has begun.  The pool hands its
buffer out again when the kernel has let go of all of them.
"""
import argparse
import asyncio
import json
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import namespaces

import uringloop

RTP = struct.Struct('!BBHII')       # version, payload type, sequence number, time stamp, source
PACKET = 1200                       # bytes: fits every path of the Internet
LAST_OF_FRAME = 0x80                # the marker bit, beside the payload type
PAYLOAD_TYPE = 96                   # the first that has no fixed meaning
CLOCK = 90_000                      # ticks a second of a video's time stamps
SOCKET_BUFFER = 8 << 20
QUIET = 1.0                         # seconds without a packet, then a local receiver has all


class Receiver(asyncio.DatagramProtocol):
    """Counts the packets of a stream, and those that are not as they were sent."""

    def __init__(self):
        self.received = self.wrong = 0

    def connection_made(self, transport):
        transport.get_extra_info('socket').setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)

    def datagram_received(self, data, addr):
        _, _, sequence, stamp, _ = RTP.unpack_from(data)
        self.received += 1
        self.wrong += len(data) != PACKET or data[RTP.size:] != content(sequence, stamp)


def content(sequence, stamp):
    """The payload of a packet: a receiver can tell whether it is the right one."""
    return struct.pack('!HI', sequence, stamp) * ((PACKET - RTP.size) // 6)


class Sender(asyncio.DatagramProtocol):

    def __init__(self, receivers, frames, packets, buffers):
        self.receivers = receivers
        self.packets = packets
        self.frames = frames
        self.pool = asyncio.get_running_loop().create_buffer_pool(buffers, packets * PACKET)
        self.copied = Counter()         # packets, by SendReport.copied
        self.sends = set()              # futures of what the kernel may still read
        self.failures = Counter()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info('socket').setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def error_received(self, exc):
        self.failures[str(exc)] += 1

    def write_frame(self, lease, number, fps):
        """Stands for a camera and its encoder, which would write here, too."""
        stamp = number * CLOCK // (fps or 60) & 0xffffffff
        for n in range(self.packets):
            sequence = number * self.packets + n & 0xffff
            marker = LAST_OF_FRAME if n == self.packets - 1 else 0
            begin = n * PACKET
            RTP.pack_into(lease, begin, 0x80, marker | PAYLOAD_TYPE, sequence, stamp, 1)
            lease[begin + RTP.size:begin + PACKET] = content(sequence, stamp)

    async def stream(self, fps):
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(self.frames):
            if fps:
                await asyncio.sleep(start + number / fps - loop.time())
            await self.writable.wait()
            with await self.pool.acquire() as lease:
                self.write_frame(lease, number, fps)
                for address in self.receivers:
                    future = self.transport.sendto_zerocopy(lease, address, segment_size=PACKET)
                    self.sends.add(future)
                    future.add_done_callback(self.sent)
        await asyncio.gather(*self.sends, return_exceptions=True)
        await self.pool.close()

    def sent(self, future):
        """The kernel has let go of a frame, for one receiver."""
        self.sends.discard(future)
        if future.exception() is None:
            self.copied[future.result().copied] += self.packets
        else:
            self.error_received(future.exception())


async def fan_out(options, receivers):
    """Send the stream, and report on it."""
    loop = asyncio.get_running_loop()
    local = []
    for _ in range(options.local):
        transport, receiver = await loop.create_datagram_endpoint(
            Receiver, local_addr=('127.0.0.1', 0))
        local.append((transport, receiver))
        receivers.append(transport.get_extra_info('sockname'))
    family = socket.AF_INET6 if ':' in receivers[0][0] else socket.AF_INET
    transport, sender = await loop.create_datagram_endpoint(
        lambda: Sender(receivers, options.frames, options.packets, options.buffers),
        family=family, local_addr=('::' if family == socket.AF_INET6 else '0.0.0.0', 0))
    begin = time.monotonic()
    try:
        await sender.stream(options.fps)
        seconds = time.monotonic() - begin
        await received_all(local, options.frames * options.packets)
    finally:
        transport.close()
        for each, _ in local:
            each.close()
    stats = loop.stats()
    written = options.frames * options.packets
    return {
        'receivers': len(receivers),
        'packets_of_frame': options.packets,
        'packets_written': written,
        'packets_sent': written * len(receivers) - sum(sender.failures.values()) * options.packets,
        'fps': options.fps,
        'seconds': seconds,
        'zerocopy': sender.copied[False],
        'copied': sender.copied[True],
        'unknown': sender.copied[None],     # kernels before 6.2 don't tell
        'submissions': stats.submissions,
        'trains': stats.trains_sent,
        'registered': stats.registered_sends,
        'lost': sum(options.frames * options.packets - receiver.received for _, receiver in local),
        'wrong': sum(receiver.wrong for _, receiver in local),
        'failures': dict(sender.failures),
    }


async def received_all(local, count):
    """Wait until the receivers in this process have all, or nothing comes any more."""
    before = None
    while any(receiver.received < count for _, receiver in local):
        now = [receiver.received for _, receiver in local]
        if now == before:
            return
        before = now
        await asyncio.sleep(QUIET)


def show(report):
    sent, written = report['packets_sent'], report['packets_written']
    print(f'{written:,} packets of {PACKET:,} bytes, written once, sent to '
          f'{report["receivers"]:,} receivers: {sent:,} packets in {report["seconds"]:.2f} s')
    print(f'{sent / report["seconds"]:,.0f} packets a second, '
          f'{sent * PACKET * 8 / 1e9 / report["seconds"]:.2f} Gbit/s, '
          f'by {report["trains"]:,} trains, {report["registered"]:,} sends from registered memory')
    show_copies(report, sent)
    if report['lost']:
        print(f'{report["lost"]:,} packets lost: the receivers could not keep up: lower --fps'
              + (' (0 is as fast as it goes)' if not report['fps'] else ''))
    if report['wrong']:
        print(f'{report["wrong"]:,} packets not as sent')
    for failure, count in report['failures'].items():
        print(f'{count:,} frames not sent: {failure}')


def show_copies(report, sent):
    if not report['submissions']:
        print("copied by asyncio's own loop: there is no io_uring, or it is switched off")
        return
    told = report['zerocopy'] + report['copied']
    print('copied by the kernel: '
          + ('this one does not tell' if report['unknown'] and not told
             else f'{report["copied"] / max(1, told):.0%}')
          + (' (receivers on the same machine make it copy)' if report['copied'] else ''))
    if report['copied'] and report['registered'] < sent // report['packets_of_frame']:
        print('the other sends left plainly: the path had been found to copy, and that is cheaper')


def drop(options):
    """Run again in a namespace where a device stands for so many receivers; its exit code."""
    with namespaces.black_hole('1500', 'rtp') as (name, address):
        command = ['ip', 'netns', 'exec', name, sys.executable, __file__,
                   *(f'{address}:{5004 + 2 * n}' for n in range(options.drop)),
                   '--frames', options.frames, '--packets', options.packets,
                   '--buffers', options.buffers, '--fps', options.fps]
        return subprocess.run([*map(str, command), *(['--json'] if options.json else [])],
                              check=False).returncode


def endpoint(text):
    host, colon, port = text.rpartition(':')
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f'{text!r} is not HOST:PORT')
    try:
        return socket.getaddrinfo(host.strip('[]'), int(port), type=socket.SOCK_DGRAM)[0][4]
    except socket.gaierror as error:
        raise argparse.ArgumentTypeError(f'{host}: {error.strerror}') from None


def number(text, least=1, most=1_000_000):
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number from {least} to {most:,}')
    return int(text)


def main():
    parser = argparse.ArgumentParser(
        description='Send one stream of RTP packets to many receivers, from memory that is '
                    'written once and copied for none of them.',
        epilog='Without receivers of your own try --local, which checks each packet but makes the '
               'kernel copy, and --drop, which shows how fast it is where nothing is copied.  '
               'A frame of 50 packets and 60 frames a second are a stream of 29 Mbit/s.  '
               'See docs/zerocopy.md for what goes without a copy and when.')
    parser.add_argument('receivers', nargs='*', type=endpoint, metavar='HOST:PORT',
                        help='where to send the stream; all IPv4, or all IPv6 as [::1]:5004')
    parser.add_argument('--local', type=number, default=0, metavar='N',
                        help='make N receivers in this process, too')
    parser.add_argument('--drop', type=number, default=0, metavar='N',
                        help='instead: N receivers behind a device that drops all, '
                             'in a network namespace of its own (takes root)')
    parser.add_argument('--frames', type=number, default=300, metavar='N',
                        help='how many frames to send (default: %(default)s)')
    parser.add_argument('--fps', type=partial(number, least=0), default=60, metavar='N',
                        help='frames a second; 0: as fast as it goes (default: %(default)s)')
    parser.add_argument('--packets', type=partial(number, most=1000), default=50, metavar='N',
                        help='packets of a frame (default: %(default)s)')
    parser.add_argument('--buffers', type=number, default=8, metavar='N',
                        help='frames that may be under way (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='report as one line of JSON')
    options = parser.parse_args()
    if options.drop and (options.receivers or options.local):
        parser.error('--drop goes with no other receivers')
    if not options.drop and not options.receivers and not options.local:
        parser.error('name receivers as HOST:PORT, or give --local or --drop')
    try:
        if options.drop:
            sys.exit(drop(options))
        report = uringloop.run(fan_out(options, options.receivers))
    except (OSError, namespaces.NamespaceError) as error:
        sys.exit(f'rtp_fanout: {error}')
    except KeyboardInterrupt:
        sys.exit(130)
    if options.json:
        print(json.dumps(report))
    else:
        show(report)
    sys.exit(1 if report['failures'] or report['wrong'] else 0)


if __name__ == '__main__':
    main()
