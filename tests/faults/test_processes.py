"""Processes that end, and that fork, with sends in flight: receivers get whole datagrams only."""
import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from tests.support.cases import UringCase
from tests.support.features import needs_feature
from tests.support.load import Load, number_of, numbers_of, still_alive
from tests.support.namespaces import Wire, needs_root
from tests.support.programs import ROOT, python
from tests.support.protocols import endpoint
from tests.support.sockets import SO_RCVBUFFORCE, SO_SNDBUFFORCE, udp
from tests.support.streams import MANY_BYTES, Streams
from tests.support.turns import turns, turns_until

# Sends by every kind of call, from a socket that it is given, and ends in some way.
SENDS = '''
import asyncio, os, signal, socket, sys
import uringloop
from tests.support.load import Load
from tests.support.protocols import endpoint
from tests.support.turns import turns

def sending(rounds):
    """A coroutine: says how many datagrams have left, and leaves all else as it is."""
    async def main():
        global kept
        sock = socket.socket(fileno=int(sys.argv[1]))
        sock.setblocking(False)
        transport, protocol = await endpoint(sock=sock)
        kept = load = Load(transport, protocol, (sys.argv[2], int(sys.argv[3])))
        while load.rounds < rounds:
            load.round()
            await asyncio.sleep(0)
        await turns()
        assert not load.errors() and not transport.get_write_buffer_size()
        pinned = asyncio.get_running_loop().stats().bytes_pinned
        print(load.handed, pinned, flush=True)
    return main()

loop = uringloop.new_event_loop(require_uring=True)
'''

ENDS = {
    'end of the program': ('loop.run_until_complete(sending(2))', 0),
    'closed': ('loop.run_until_complete(sending(2)); loop.close()', 0),
    'uringloop.run': ('uringloop.run(sending(2))', 0),
    'sys.exit': ('''
        async def main():
            await sending(2)
            sys.exit(7)
        loop.run_until_complete(main())''', 7),
    'exit in a callback': ('''
        loop.run_until_complete(sending(2))
        loop.call_soon(sys.exit, 7)
        loop.run_forever()''', 7),
    'os._exit': ('''
        async def main():
            await sending(2)
            os._exit(7)
        loop.run_until_complete(main())''', 7),
    'exception': ('''
        async def main():
            await sending(2)
            raise ZeroDivisionError
        loop.run_until_complete(main())''', 1),
    'killed': ('''
        async def main():
            await sending(2)
            os.kill(os.getpid(), signal.SIGKILL)
        loop.run_until_complete(main())''', -signal.SIGKILL),
    'terminated': ('''
        async def main():
            await sending(2)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(10)
        loop.run_until_complete(main())''', -signal.SIGTERM),
    'aborted': ('''
        async def main():
            await sending(2)
            os.abort()
        loop.run_until_complete(main())''', -signal.SIGABRT),
}


def drained(sock):
    """What has come so far."""
    got = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(sock.recv(70_000))
    return got


class Ended:
    """A process that has ended in some way while the kernel had what it has sent."""

    def __init__(self, wire, port, source):
        self.out = wire.socket()
        self.out.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
        self.far = wire.far.socket(address=(wire.peer[0], port))
        self.far.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', SENDS + textwrap.dedent(source),
             str(self.out.fileno()), wire.peer[0], str(port)], cwd=ROOT, text=True,
            pass_fds=[self.out.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait(self):
        told, self.stderr = self.process.communicate(timeout=30)
        self.handed, self.pinned = map(int, told.split())
        self.early = drained(self.far)

    def close(self):
        self.arrived = drained(self.far)
        self.out.close()
        self.far.close()


@pytest.fixture(scope='module')
def ended():
    """All of them, at the same time."""
    with Wire() as wire:
        processes = {how: Ended(wire, 5000 + number, source)
                     for number, (how, (source, _)) in enumerate(ENDS.items())}
        for process in processes.values():
            process.wait()
        wire.release()
        for process in processes.values():
            process.close()
        return processes


@needs_root
class TestEnds:
    """The kernel still has all that was sent: its neighbour does not answer yet."""

    @pytest.mark.parametrize('how', ENDS)
    def test_what_has_left_arrives_when_the_process_is_gone(self, ended, how):
        process = ended[how]
        assert process.process.returncode == ENDS[how][1], process.stderr
        if how != 'exception':
            assert process.stderr == ''
        assert not process.early
        assert numbers_of(process.arrived) == set(range(process.handed))

    @needs_feature('send_zc')
    def test_the_kernel_still_read_their_memory(self, ended):
        """Or the others would prove nothing."""
        for process in ended.values():
            assert process.pinned > 100_000

    def test_another_program_takes_its_place(self):
        """The kernel has ``execve`` wait until it has let go of what was sent."""
        with Wire() as wire:
            process = Ended(wire, 5000, '''
                async def main():
                    await sending(2)
                    os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(7)'])
                loop.run_until_complete(main())''')
            told = process.process.stdout.readline()
            wire.release()
            assert process.process.wait(30) == 7
            process.close()
            process.process.stdout.close()
            process.process.stderr.close()
            assert numbers_of(process.arrived) == set(range(int(told.split()[0])))


FOREVER = SENDS + '''
loop.run_until_complete(sending(1 << 40))
'''

WRITES = '''
import asyncio, random, sys
import uringloop

async def main():
    data = random.Random(7).randbytes(10_000_000)
    reader, writer = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]))
    while True:
        writer.write(data)
        await writer.drain()

uringloop.run(main())
'''


@contextlib.contextmanager
def running(source, *arguments, pass_fds=()):
    process = subprocess.Popen(
        [sys.executable, '-c', source, *map(str, arguments)], cwd=ROOT, pass_fds=pass_fds,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
class TestKilledInTheMidst(Streams, UringCase):
    """At any moment, while it sends as fast as it can."""

    timeout = 20.0

    def test_datagrams_are_whole(self, number):
        async def main():
            receiver, received = await endpoint(sock=udp(room=4 << 20))
            with udp() as out, running(FOREVER, out.fileno(), *receiver.get_extra_info('sockname'),
                                       pass_fds=(out.fileno(),)) as process:
                await received.until(lambda p: len(p.datagrams) > 3000)
                process.send_signal(number)
                assert await asyncio.to_thread(process.wait, 10) == -number
            await still_alive()
            for data in received.datagrams:
                number_of(data)
            receiver.close()
            await turns()
            assert not self.problems

        self.run(main())

    def test_a_stream_ends_where_it_was(self, number):
        async def main():
            _, address = await self.serve()
            with running(WRITES, address[1]) as process:
                while not self.opened:
                    await asyncio.sleep(0)
                near = self.opened[0]
                await near.until_length(15_000_000)
                process.send_signal(number)
                assert await asyncio.to_thread(process.wait, 10) == -number
                assert isinstance(await near.until_lost(), (type(None), ConnectionResetError))
            for begin in range(0, len(near.data), len(MANY_BYTES)):
                part = near.data[begin:begin + len(MANY_BYTES)]
                assert part == MANY_BYTES[:len(part)]
            await still_alive()
            assert not self.problems

        self.run(main())


RECEIVER = '''
import socket, sys
kind = int(sys.argv[1])
sock = socket.socket(socket.AF_INET, kind)
sock.bind(('127.0.0.1', 0))
if kind == socket.SOCK_STREAM:
    sock.listen()
print(sock.getsockname()[1], flush=True)
if kind == socket.SOCK_STREAM:
    sock, _ = sock.accept()
while sock.recv(70_000):
    pass
'''


class TestKilledReceiver(Streams, UringCase):
    """The process that receives is killed while it is sent to."""

    timeout = 20.0

    def kill(self, process):
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def stop(self, process):
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    def test_datagrams(self):
        """A connected socket is told of it, and goes on when somebody is there again."""
        async def main():
            with running(RECEIVER, int(socket.SOCK_DGRAM)) as process:
                port = int(process.stdout.readline())
                sock = udp()
                sock.connect(('127.0.0.1', port))
                transport, protocol = await endpoint(sock=sock)
                load = Load(transport, protocol)
                async with load.going_on():
                    await load.more(3)
                    assert not load.errors()
                    await asyncio.to_thread(self.kill, process)
                    await protocol.until(lambda p: p.errors)
                    await load.more(5)
                    load.others += await still_alive()
                await load.settled()
                assert load.errors() == {errno.ECONNREFUSED}
                _, dropped = load.check()
                assert dropped > 0
                with udp(('127.0.0.1', port)) as late:
                    await turns(3)
                    for data in load.take(20):
                        transport.sendto(data)
                        await asyncio.sleep(0)
                    await load.settled()
                    lost = load.dropped() - dropped
                    assert lost <= 1               # it was told of the last one before
                    assert len(numbers_of(drained(late))) == 20 - lost
                load.check()
                await load.close()
                assert not self.problems

        self.run(main())

    def test_streams(self):
        async def main():
            with running(RECEIVER, int(socket.SOCK_STREAM)) as process:
                near = await self.connect(('127.0.0.1', int(process.stdout.readline())))
                writing = asyncio.ensure_future(self.write_on(near))
                await near.until(lambda: 'pause' in near.calls)
                # With something unread: who is killed when all is read just ends.
                await asyncio.to_thread(self.stop, process)
                await turns_until(
                    lambda: near.transport.get_write_buffer_size() >= len(MANY_BYTES))
                await asyncio.to_thread(self.kill, process)
                assert isinstance(await near.until_lost(),
                                  (ConnectionResetError, BrokenPipeError))
                await writing
                assert near.transport.get_write_buffer_size() == 0
                await still_alive()
                assert not self.problems

        self.run(main())

    async def write_on(self, near):
        while not near.lost:
            if near.transport.get_write_buffer_size() < len(MANY_BYTES):
                near.transport.write(MANY_BYTES[:200_000])
            await asyncio.sleep(0)


CHILDREN = '''
import asyncio, concurrent.futures, multiprocessing, os, sys, traceback
import uringloop
from tests.support.load import Load, numbers_of, still_alive
from tests.support.protocols import endpoint
from tests.support.sockets import udp
from tests.support.turns import turns

async def talk(address):
    """In a child: ask the parent, and be answered."""
    transport, protocol = await endpoint(remote_addr=address)
    for size in 10, 20_000:
        transport.sendto(b'?' * size)
        await protocol.until(lambda p: p.datagrams and p.datagrams[-1] == b'?' * size)
    transport.close()
    await still_alive()
    return os.getpid()

def child(address):
    return uringloop.run(asyncio.wait_for(talk(address), 20))

def forks(address):
    """A fork by hand: in whatever thread, its child has a loop of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            child(address)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def by_process(loop, context, address):
    processes = [context.Process(target=child, args=(address,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        await loop.run_in_executor(None, process.join)
    assert [process.exitcode for process in processes] == [0] * 2

async def by_pool(loop, context, address):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        pids = await asyncio.gather(
            *(loop.run_in_executor(pool, child, address) for _ in range(2)))
    assert os.getpid() not in pids

async def by_fork(loop, context, address):
    for _ in range(3):
        assert await loop.run_in_executor(None, forks, address) == 0

async def by_many_threads(loop, context, address):
    assert await asyncio.gather(
        *(loop.run_in_executor(None, forks, address) for _ in range(4))) == [0] * 4

class Answers(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)
        load.others += 1

async def main(method):
    global load
    loop = asyncio.get_running_loop()
    receiver, received = await endpoint(sock=udp(room=4 << 20))
    transport, protocol = await endpoint(sock=udp())
    load = Load(transport, protocol, receiver.get_extra_info('sockname'))
    answers, _ = await loop.create_datagram_endpoint(Answers, local_addr=('127.0.0.1', 0))
    address = answers.get_extra_info('sockname')
    ways = [by_fork, by_many_threads] if method == 'by hand' else [by_process, by_pool]
    context = None if method == 'by hand' else multiprocessing.get_context(method)
    async with load.going_on(received):
        for way in ways:
            await load.more(2)
            await way(loop, context, address)
        await load.more(2)
    await load.settled()
    assert load.check() == (load.handed, 0)
    await received.until(lambda p: len(p.datagrams) >= load.handed)
    assert len(numbers_of(received.datagrams)) == load.handed
    await load.close()
    await still_alive()
    for transport in receiver, answers:
        name = transport.get_extra_info('sockname')
        transport.close()
        await turns(10)
        udp(name).close()              # no child has kept the port
    print('whole')

if __name__ == '__main__':
    uringloop.run(asyncio.wait_for(main(sys.argv[1]), 40))
'''


class TestChildren:
    """Started from within a running loop, under load: child and parent go on."""

    @pytest.mark.parametrize('method', ['by hand', 'fork', 'spawn', 'forkserver'])
    def test_parent_and_children_go_on(self, method, tmp_path):
        program = tmp_path / 'program.py'
        program.write_text(CHILDREN)
        # Python 3.12 warns of a fork where there are threads.
        done = python('-W', 'ignore', program, method)
        assert (done.returncode, done.stdout, done.stderr) == (0, 'whole\n', '')
