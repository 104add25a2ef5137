"""A relay: what comes to one UDP port goes on to others.  Trains stay trains.

    .venv/bin/python examples/udp_relay.py --port 9000 192.0.2.7:9000 192.0.2.8:9000

Datagrams that the kernel has put together (UDP_GRO) are not cut apart here: one call of the
protocol has up to 64 of them, in one ``bytes``, and the same memory goes on by one call a
receiver, with the same ``segment_size``.
"""
import argparse
import asyncio
import signal
import socket
import sys

import uringloop


class WayOut(asyncio.DatagramProtocol):
    """The endpoint that sends; ``full`` while more waits for room than is good."""

    full = False

    def pause_writing(self):
        self.full = True

    def resume_writing(self):
        self.full = False


class Relay(uringloop.DatagramProtocol):

    def __init__(self, transport, way_out, receivers):
        self.transport, self.way_out, self.receivers = transport, way_out, receivers
        self.dropped = self.failed = 0

    def datagram_train_received(self, data, segment_size, addr):
        for receiver in self.receivers:
            if self.way_out.full:
                self.dropped += -(-len(data) // segment_size)
            elif 0 < len(data) <= segment_size:
                self.transport.sendto(data, receiver)
            else:
                # Not awaited: the transport keeps the memory, and who asks is told of the end.
                future = self.transport.sendto_zerocopy(data, receiver, segment_size=segment_size)
                future.add_done_callback(self.sent)

    def sent(self, future):
        # Nobody listens, say: it is what UDP is like.
        self.failed += future.exception() is not None


async def relay(host, port, receivers):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    outgoing, way_out = await loop.create_datagram_endpoint(
        WayOut, family=receivers[0][0], local_addr=None)
    try:
        incoming, protocol = await loop.create_datagram_endpoint(
            lambda: Relay(outgoing, way_out, [address for _, address in receivers]),
            local_addr=(host, port))
    except OSError:
        outgoing.close()
        raise
    name, port = incoming.get_extra_info('sockname')[:2]
    print(f'listening on {name} port {port}', flush=True)
    await stop.wait()
    incoming.close()
    outgoing.close()
    stats = loop.stats()
    print(f'{stats.datagrams_received} datagrams received, {stats.trains_received} times in a '
          f'train; {stats.datagrams_sent} sent, {protocol.dropped} dropped for want of room, '
          f'{protocol.failed} sends failed')


def endpoint(text):
    """``HOST:PORT``, as ``(family, address)``."""
    host, colon, port = text.rpartition(':')
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f'{text!r} is not HOST:PORT')
    try:
        found = socket.getaddrinfo(host.strip('[]'), int(port), type=socket.SOCK_DGRAM)[0]
    except socket.gaierror as error:
        raise argparse.ArgumentTypeError(f'{host}: {error.strerror}') from None
    return found[0], found[4]


def port_number(text):
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port from 0 to 65535')
    return int(text)


def main():
    parser = argparse.ArgumentParser(
        description='Send what comes to a UDP port on to others, until Ctrl-C.',
        epilog='try it: nc -u -l -p 9001 in another terminal, and: '
               'echo hello | nc -u -w1 127.0.0.1 9000')
    parser.add_argument('receivers', nargs='+', type=endpoint, metavar='HOST:PORT',
                        help='where to send it; all IPv4, or all IPv6 as [::1]:9000')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on; 0.0.0.0 or :: for all (default: %(default)s)')
    parser.add_argument('--port', type=port_number, default=9000,
                        help='UDP port, 0 for any free one (default: %(default)s)')
    options = parser.parse_args()
    if len({family for family, _ in options.receivers}) > 1:
        parser.error('the receivers are to be all IPv4 or all IPv6')
    try:
        uringloop.run(relay(options.host, options.port, options.receivers))
    except OSError as error:
        sys.exit(f'udp_relay: {options.host} port {options.port}: {error.strerror or error}')


if __name__ == '__main__':
    main()
