"""A UDP echo that answers as it was asked: from the same address, with the same ECN.

    .venv/bin/python examples/ecn_echo.py --port 9999
    .venv/bin/python examples/ecn_echo.py --ask 127.0.0.2 --port 9999

The server listens on all addresses by one socket.  What it is told of each datagram (which of
its addresses was asked, how the packet was marked, when it came) it needs no socket options nor
control messages for.
"""
import argparse
import asyncio
import signal
import sys
import time

import uringloop

ECN = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE']


class Echo(uringloop.DatagramProtocol):

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received_with_info(self, data, addr, info):
        self.transport.sendto_with(data, addr, ecn=info.ecn, source=info.local_address)


class Client(uringloop.DatagramProtocol):

    def __init__(self):
        self.answer = asyncio.get_running_loop().create_future()

    def datagram_received_with_info(self, data, addr, info):
        if not self.answer.done():
            self.answer.set_result((data, addr, info))

    def error_received(self, exc):
        if not self.answer.done():
            self.answer.set_exception(exc)


async def serve(host, port):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    transport, _ = await loop.create_datagram_endpoint(
        Echo, local_addr=(host, port), ecn=True, pktinfo=True, drops=True)
    name, port = transport.get_extra_info('sockname')[:2]
    print(f'listening on {name} port {port}', flush=True)
    await stop.wait()
    transport.close()
    stats = loop.stats()
    print(f'{stats.datagrams_received} datagrams received, {stats.datagrams_sent} sent, '
          f'{stats.datagrams_overflowed} found no room')


async def ask(host, port):
    """Ask with each ECN; whether any was answered."""
    answered = False
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(
        Client, remote_addr=(host, port), ecn=True, timestamps=True)
    for ecn, name in enumerate(ECN):
        client.answer = loop.create_future()
        sent = time.time_ns()
        transport.sendto_with(name.encode(), ecn=ecn)
        try:
            _, addr, info = await asyncio.wait_for(client.answer, 2)
        except (OSError, asyncio.TimeoutError) as exc:
            print(f'{name}: no answer ({exc or "within two seconds"})')
        else:
            answered = True
            print(f'{name}: answered by {addr[0]}, marked {ECN[info.ecn]}, '
                  f'{(info.timestamp_ns - sent) / 1000:.0f} microseconds later')
    transport.close()
    return answered


def port_number(text):
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port from 0 to 65535')
    return int(text)


def main():
    parser = argparse.ArgumentParser(
        description='Send every UDP datagram back, from the address that was asked and with the '
                    'ECN that it came with, until Ctrl-C.',
        epilog='try it: python examples/ecn_echo.py --ask 127.0.0.2 in another terminal')
    parser.add_argument('--host', default='0.0.0.0',
                        help='address to listen on; :: for IPv6 (default: all of IPv4)')
    parser.add_argument('--port', type=port_number, default=9999,
                        help='UDP port, 0 for any free one (default: %(default)s)')
    parser.add_argument('--ask', metavar='HOST',
                        help='ask the one that runs there, once with each ECN codepoint')
    options = parser.parse_args()
    try:
        if options.ask:
            sys.exit(0 if uringloop.run(ask(options.ask, options.port)) else 1)
        uringloop.run(serve(options.host, options.port))
    except OSError as error:
        sys.exit(f'ecn_echo: {options.ask or options.host} port {options.port}: '
                 f'{error.strerror or error}')


if __name__ == '__main__':
    main()
