"""The smallest complete UDP server: what comes goes back.

    .venv/bin/python examples/udp_echo.py --port 9999
    echo hello | nc -u -w1 127.0.0.1 9999
"""
import argparse
import asyncio
import signal
import sys

import uringloop


class Echo(asyncio.DatagramProtocol):

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


async def serve(host, port):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=(host, port))
    name, port = transport.get_extra_info('sockname')[:2]
    print(f'listening on {name} port {port}', flush=True)
    await stop.wait()
    transport.close()
    stats = loop.stats()
    print(f'{stats.datagrams_received} datagrams received, {stats.datagrams_sent} sent, '
          f'{stats.datagrams_dropped} dropped, {stats.syscalls} system calls for the ring')


def port_number(text):
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port from 0 to 65535')
    return int(text)


def main():
    parser = argparse.ArgumentParser(
        description='Send every UDP datagram back to where it came from, until Ctrl-C.',
        epilog='try it: echo hello | nc -u -w1 127.0.0.1 9999')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on; 0.0.0.0 or :: for all (default: %(default)s)')
    parser.add_argument('--port', type=port_number, default=9999,
                        help='UDP port, 0 for any free one (default: %(default)s)')
    options = parser.parse_args()
    try:
        uringloop.run(serve(options.host, options.port))
    except OSError as error:
        sys.exit(f'udp_echo: {options.host} port {options.port}: {error.strerror or error}')


if __name__ == '__main__':
    main()
