"""A UDP server of trio's tasks: what comes goes back, and a file is sent to who asks for it.

    .venv/bin/python examples/trio_echo.py --port 9999
    echo hello | nc -u -w1 127.0.0.1 9999

A datagram that is ``send`` and a name has that file sent to its sender, in datagrams of 1,200
bytes, without a copy; the echo goes on meanwhile, and who takes too long is cancelled.
"""
import argparse
import mmap
import signal
import sys
from pathlib import Path

import trio

import uringloop.trio

SIZE = 1200
PIECE = 40 * SIZE       # a train: it leaves by one submission


class Server:

    def __init__(self, endpoint, files, patience):
        self.endpoint, self.files, self.patience = endpoint, files, patience
        self.echoed = self.sent = self.given_up = 0

    async def serve(self, nursery):
        async for batch in self.endpoint:
            back = []
            for data, addr in batch:
                name = data[5:].decode(errors='replace').strip()
                if data.startswith(b'send ') and name in self.files:
                    nursery.start_soon(self.send_file, self.files[name], addr)
                else:
                    back.append((data, addr))
            # They leave together.
            await self.endpoint.send_many(back)
            self.echoed += len(back)

    async def send_file(self, path, addr):
        with path.open('rb') as file, trio.move_on_after(self.patience) as scope:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            for start in range(0, len(content), PIECE):
                # Waits until the kernel has let go of it: a pace, and all that UDP has of one.
                await self.endpoint.send_zerocopy(
                    content[start:start + PIECE], addr, segment_size=SIZE)
        self.sent += not scope.cancelled_caught
        self.given_up += scope.cancelled_caught


async def main_task(options):
    files = {path.name: path for path in options.files}
    async with await uringloop.trio.open_datagram_endpoint(
            (options.host, options.port)) as endpoint:
        server = Server(endpoint, files, options.patience)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print('listening on {} port {}'.format(*endpoint.address[:2]), flush=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve, nursery)
                await signals.__anext__()
                nursery.cancel_scope.cancel()
    print(f'{server.echoed} datagrams echoed, {server.sent} files sent, '
          f'{server.given_up} given up')


def port_number(text):
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port from 0 to 65535')
    return int(text)


def main():
    parser = argparse.ArgumentParser(
        description='Send every UDP datagram back to where it came from, and files to who asks '
                    'for them, until Ctrl-C.',
        epilog='try it: echo hello | nc -u -w1 127.0.0.1 9999')
    parser.add_argument('files', nargs='*', type=Path, metavar='FILE',
                        help='what may be asked for, by its name: echo send NAME | nc ...')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on; 0.0.0.0 or :: for all (default: %(default)s)')
    parser.add_argument('--port', type=port_number, default=9999,
                        help='UDP port, 0 for any free one (default: %(default)s)')
    parser.add_argument('--patience', type=float, default=10, metavar='SECONDS',
                        help='how long the sending of a file may take (default: %(default)s)')
    options = parser.parse_args()
    for path in options.files:
        if not path.is_file() or not path.stat().st_size:
            parser.error(f'{path} is no file, or an empty one')
    try:
        uringloop.trio.run(main_task, options)
    except OSError as error:
        sys.exit(f'trio_echo: {options.host} port {options.port}: {error.strerror or error}')


if __name__ == '__main__':
    main()
