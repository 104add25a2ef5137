"""Send a datagram to each address, and print what the network says of it, by the error queue.

    .venv/bin/python examples/udp_errors.py 127.0.0.1:9 192.0.2.7:9

A socket that is not connected hears of no error otherwise, and a connected one of less: not who
has said it, nor what the ICMP message was.
"""
import argparse
import asyncio
import errno
import socket
import struct

import uringloop

RECVERR = {(socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25)}     # IP_RECVERR, IPV6_RECVERR
ORIGINS = {1: 'this machine', 2: 'ICMP', 3: 'ICMPv6'}              # SO_EE_ORIGIN_...
EXTENDED_ERR = struct.Struct('=IBBBBII')                           # <linux/errqueue.h>


class Errors(uringloop.DatagramProtocol):

    def __init__(self):
        self.told = asyncio.Event()

    def error_received(self, exc):
        # What the socket itself refused to send: nothing of it comes by the queue.
        print(f'not sent: {exc.strerror}', flush=True)
        self.told.set()

    def datagram_errqueue_received(self, data, ancdata, flags, addr):
        # ``addr`` is where the datagram was sent to, ``data`` what the message has quoted of it.
        for level, kind, content in ancdata:
            if (level, kind) in RECVERR:
                number, origin, icmp_type, icmp_code, _, info, _ = EXTENDED_ERR.unpack_from(content)
                print(f'{addr[0]} port {addr[1]}: {errno.errorcode[number]} from {ORIGINS[origin]}'
                      f', type {icmp_type}, code {icmp_code}, info {info}; sent was {data!r}',
                      flush=True)
        self.told.set()


async def ask(addresses, seconds):
    loop = asyncio.get_running_loop()
    transport, errors = await loop.create_datagram_endpoint(Errors, local_addr=('0.0.0.0', 0))
    for number, address in enumerate(addresses):
        errors.told.clear()
        transport.sendto(b'datagram %d' % number, address)
        try:
            await asyncio.wait_for(errors.told.wait(), seconds)
        except asyncio.TimeoutError:
            print(f'{address[0]} port {address[1]}: nothing within {seconds:g} seconds', flush=True)
    transport.close()


def address(text):
    host, _, port = text.rpartition(':')
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f'{text!r} is not HOST:PORT')
    if ':' in host:
        raise argparse.ArgumentTypeError(f'{text!r}: IPv4 only')
    try:
        return socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
    except socket.gaierror as error:
        raise argparse.ArgumentTypeError(f'{host}: {error.strerror}') from None


def main():
    parser = argparse.ArgumentParser(
        description='Send a datagram to each address and print what the network says of it.')
    parser.add_argument('addresses', nargs='+', type=address, metavar='HOST:PORT',
                        help='IPv4 addresses to ask')
    parser.add_argument('--seconds', type=float, default=2,
                        help='how long to wait for an answer (default: %(default)g)')
    options = parser.parse_args()
    uringloop.run(ask(options.addresses, options.seconds))


if __name__ == '__main__':
    main()
