"""One UDP port, a process for each processor: the kernel shares out who sends (SO_REUSEPORT).

    .venv/bin/python examples/reuseport_workers.py --port 9000 --workers 4

Each worker has a loop, an endpoint and a queue of its own, and is given the same senders each
time, by a hash of their address (socket(7)).  It answers each datagram with what came, a turn's
worth by one call.
"""
import argparse
import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import time

import uringloop


class Echo(uringloop.DatagramProtocol):

    def __init__(self):
        self.received = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagrams_received(self, batch):
        self.received += len(batch)
        for data, addr in batch:
            self.transport.sendto(data, addr)

    def datagram_received(self, data, addr):
        # With asyncio's own loop, which does not know of the other method.
        self.datagrams_received([(data, addr)])


async def serve(host, port, ready, counts):
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    transport, protocol = await loop.create_datagram_endpoint(
        Echo, local_addr=(host, port), reuse_port=True)
    ready.put(None)
    await stop.wait()
    transport.close()
    counts.put((os.getpid(), protocol.received))


def work(host, port, ready, counts):
    # Ctrl-C goes to all; the parent then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uringloop.run(serve(host, port, ready, counts))


def reserve(host, port):
    """A socket that holds the port, whichever it is, and gets nothing: it does not listen long."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def take(queue, workers):
    """What one of the workers has put there; ends the program where one has failed."""
    while queue.empty():
        for worker in workers:
            if worker.exitcode:
                sys.exit(f'reuseport_workers: a worker has ended with status {worker.exitcode}')
        time.sleep(0.02)
    return queue.get()


def port_number(text):
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port from 0 to 65535')
    return int(text)


def main():
    parser = argparse.ArgumentParser(
        description='Echo the datagrams of one UDP port by several processes, until Ctrl-C.',
        epilog='try it: nc -u 127.0.0.1 9000, from several terminals')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on; 0.0.0.0 or :: for all (default: %(default)s)')
    parser.add_argument('--port', type=port_number, default=9000,
                        help='UDP port, 0 for any free one (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=len(os.sched_getaffinity(0)),
                        help='how many processes (default: one a processor, %(default)s)')
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f'--workers must be 1 or more, not {options.workers}')
    try:
        holder = reserve(options.host, options.port)
    except OSError as error:
        parser.error(f'{options.host} port {options.port}: {error.strerror}')
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(None))
    context = multiprocessing.get_context('spawn')
    ready, counts = context.SimpleQueue(), context.SimpleQueue()
    port = holder.getsockname()[1]
    workers = [context.Process(target=work, args=(options.host, port, ready, counts), daemon=True)
               for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    for _ in workers:
        take(ready, workers)
    holder.close()
    print(f'listening on {options.host} port {port}', flush=True)
    while not stopped and all(worker.is_alive() for worker in workers):
        time.sleep(0.1)
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    for _ in workers:
        pid, received = take(counts, workers)
        print(f'worker {pid}: {received} datagrams')
    for worker in workers:
        worker.join()


if __name__ == '__main__':
    main()
