"""A loop's ring: when it is made and by whom it is run, what takes it away, what outlives it."""
import asyncio
import gc
import os
import resource
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest

import uringloop
from tests.cases import UringCase, settle
from tests.namespaces import Wire, needs_root
from tests.protocols import endpoint, turns_until
from tests.test_policy import FORBID, script
from uringloop.ring import orphans
from uringloop.ring import ring as ring_module
from uringloop.ring.operations import OperationTable


def udp(address=('127.0.0.1', 0)):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(address)
    return sock


def descriptors():
    return sorted(os.listdir('/proc/self/fd'))


def thread(function):
    """Call ``function`` in a thread that ends before this returns."""
    outcome = []
    running = threading.Thread(target=lambda: outcome.append(function()))
    running.start()
    running.join()
    return outcome[0]


class limited:
    """RLIMIT_NOFILE, for a moment."""

    def __init__(self, count):
        self.count = count

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.count, self.before[1]))

    def __exit__(self, *exc):
        resource.setrlimit(resource.RLIMIT_NOFILE, self.before)


# What a program does with a loop: datagrams long and short, AF_UNIX ones, streams.
WORK = '''
import asyncio, os, socket, sys, warnings
import uringloop
from tests.protocols import Recorder, endpoint

async def work():
    loop = asyncio.get_running_loop()
    receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
    sender, _ = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
    for size in (100, 9000, 60_000, 60_000, 60_000, 60_000, 60_000, 1, 100):
        received.datagrams.clear()
        sender.sendto(bytes(size))
        await received.until(lambda p: p.datagrams == [bytes(size)])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    ours.bind(b'\\0ring-%d' % os.getpid())
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    local, heard = await endpoint(sock=ours)
    for size in (10, 90_000):
        heard.datagrams.clear()
        theirs.send(bytes(size))
        await heard.until(lambda p: p.datagrams == [bytes(size)])

    async def echo(reader, writer):
        writer.write(await reader.readexactly(300_000))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, '127.0.0.1', 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    data = os.urandom(300_000)
    writer.write(data)
    assert await reader.read(-1) == data
    writer.close()
    server.close()
    for transport in (receiver, sender, local):
        transport.close()
    theirs.close()
    return type(loop).__name__

def work_on(loop):
    return loop.run_until_complete(asyncio.wait_for(work(), 20))

def become(user, locked):
    """Give up privileges and locked memory."""
    import resource
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (locked, locked))
    os.setgroups([])
    os.setgid(65534)
    os.setuid(user + os.getpid() % 5000)
'''


class TestMadeWithTheLoop(UringCase):

    def test_run_by_another_thread(self):
        """The ring is the one that was made with the loop, whoever runs it first."""
        rings = set(ring_module.open_rings)
        thread(lambda: self.run(asyncio.sleep(0)))
        assert set(ring_module.open_rings) == rings

    def test_never_run(self):
        """Closed, or dropped, or driven by hand: nothing is left."""
        self.loop.close()
        gc.collect()
        before = descriptors()
        for _ in range(50):
            uringloop.Loop().close()
        thread(uringloop.Loop).close()
        loop = uringloop.Loop()
        thread(loop.close)
        assert descriptors() == before

    def test_not_running(self):
        """As from a loop that has run: what needs the ring says so."""
        with udp() as sock:
            waiting = self.loop.sock_recv(sock, 10)
            with pytest.raises(RuntimeError, match='not running'):
                waiting.send(None)

    @pytest.mark.parametrize('call', [425, 426, 427])
    def test_each_loop_finds_out(self, call):
        """What was possible once may be forbidden by now; the earlier loop goes on working."""
        assert script(FORBID + WORK + textwrap.dedent(f'''
            loop = uringloop.new_event_loop(require_uring=True)
            started = uringloop.new_event_loop(require_uring=True)
            started.run_until_complete(asyncio.sleep(0))
            before = sorted(os.listdir('/proc/self/fd'))
            forbid_io_uring(1, {call})
            try:
                uringloop.Loop()
            except uringloop.UringUnavailableError as error:
                assert error.errno == 1 and 'allow io_uring_setup' in str(error), error
            else:
                print('a loop was made')
            assert sorted(os.listdir('/proc/self/fd')) == before
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                for _ in range(2):
                    other = uringloop.new_event_loop()
                    print(work_on(other))
                    other.close()
            print(*[warning.category.__name__ for warning in caught])
            if {call} == 425:
                print(work_on(loop), work_on(started))
            loop.close()
            started.close()
            ''')).splitlines() == [
                '_UnixSelectorEventLoop', '_UnixSelectorEventLoop', 'RuntimeWarning',
                *(['Loop Loop'] if call == 425 else [])]

    def test_another_ring_cannot_be_had(self):
        """A loop that has run, and now runs in another thread: one error says why it cannot."""
        assert script(FORBID + WORK + textwrap.dedent('''
            import threading
            loop = uringloop.new_event_loop(require_uring=True)
            loop.run_until_complete(asyncio.sleep(0))
            forbid_io_uring(1)

            def other():
                coroutine = work()
                try:
                    loop.run_until_complete(coroutine)
                except uringloop.UringUnavailableError as error:
                    print(error.errno, 'io_uring is not available (EPERM' in str(error),
                          'seccomp' in str(error))
                coroutine.close()

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            loop.close()
            '''), '-W', 'ignore') == '1 True True\n'

    @pytest.mark.parametrize('error', [1, 13, 38])
    @pytest.mark.parametrize('started', [False, True])
    def test_no_longer_entered(self, started, error):
        """A policy that came after the loop: one clear error, and it closes without a trace."""
        assert script(FORBID + WORK + textwrap.dedent(f'''
            before = sorted(os.listdir('/proc/self/fd'))
            loop = uringloop.new_event_loop(require_uring=True)
            loop.set_exception_handler(lambda loop, context: None)
            if {started}:
                work_on(loop)
            forbid_io_uring({error}, 426)
            try:
                loop.run_until_complete(asyncio.sleep(10))
            except uringloop.UringUnavailableError as problem:
                assert problem.errno == {error}
                print('no longer available' in str(problem), 'after the loop' in str(problem))
            loop.close()
            assert sorted(os.listdir('/proc/self/fd')) == before
            '''), '-W', 'ignore') == 'True True\n'

    @needs_root
    def test_privileges_given_up(self):
        assert script(WORK + textwrap.dedent('''
            loops = [uringloop.new_event_loop(require_uring=True) for _ in range(2)]
            loops[0].run_until_complete(asyncio.sleep(0))
            become(60_000, 0)
            print(*[work_on(loop) for loop in loops])
            for loop in loops:
                loop.close()
            ''')) == 'Loop Loop\n'

    @needs_root
    def test_no_locked_memory_for_receive_buffers(self):
        """Used up by the time that the first socket receives: each is then read by plain calls."""
        assert script(WORK + textwrap.dedent('''
            import resource
            become(60_000, 8 << 20)
            loop = uringloop.new_event_loop(require_uring=True)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 8 << 20))
            print(work_on(loop), work_on(loop))
            loop.close()
            ''')) == 'Loop Loop\n'

    @needs_root
    @pytest.mark.parametrize('kib', [16, 64, 72])
    def test_little_locked_memory(self, kib):
        """Rings that are never run give it back, too."""
        assert script(WORK + textwrap.dedent(f'''
            become(60_000, {kib} << 10)
            for i in range(60):
                loop = uringloop.new_event_loop(require_uring=True)
                if i % 15 == 0:
                    print(work_on(loop))
                loop.close()
            '''), '-W', 'error') == 'Loop\n' * 4


FORKED = WORK + '''
def child(function):
    """The exit code and output of ``function`` in a child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, str(function()).encode())
            os._exit(0)
        except BaseException as exc:
            os.write(writing, repr(exc).encode())
            os._exit(1)
    os.close(writing)
    with open(reading, 'rb') as end:
        said = end.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said

loop = uringloop.new_event_loop(require_uring=True)
'''


class TestFork:
    """A loop made before fork() and never run is the child's as well as the parent's."""

    def test_both_run_it(self):
        assert script(FORKED + textwrap.dedent('''
            print(child(lambda: work_on(loop)))
            print(work_on(loop))
            print(child(lambda: work_on(loop))[1].split('(')[0])
            loop.close()
            ''')) == "(0, 'Loop')\nLoop\nRuntimeError\n"

    def test_woken_from_a_thread_and_by_a_signal(self):
        assert script(FORKED + textwrap.dedent('''
            import signal, threading
            signalled = loop.create_future()
            loop.add_signal_handler(signal.SIGUSR1, signalled.set_result, None)

            async def main():
                os.kill(os.getpid(), signal.SIGUSR1)
                await signalled
                woken = loop.create_future()
                threading.Timer(
                    0.05, loop.call_soon_threadsafe, [woken.set_result, 'woken']).start()
                return await woken

            print(child(lambda: loop.run_until_complete(asyncio.wait_for(main(), 10))))
            loop.close()
            ''')) == "(0, 'woken')\n"

    def test_watched_descriptors(self):
        """Those of add_reader are watched in the child, and in the parent still."""
        assert script(FORKED + textwrap.dedent('''
            end, other = os.pipe()
            seen = loop.create_future()
            loop.add_reader(end, lambda: seen.done() or seen.set_result(os.read(end, 1)))

            def wait():
                os.write(other, b'!')
                return loop.run_until_complete(asyncio.wait_for(seen, 10))

            print(child(wait))
            print(wait())
            loop.remove_reader(end)
            loop.close()
            ''')) == "(0, \"b'!'\")\nb'!'\n"

    def test_closed_in_the_child(self):
        assert script(FORKED + textwrap.dedent('''
            print(child(loop.close))
            print(work_on(loop))
            loop.close()
            ''')) == "(0, 'None')\nLoop\n"

    def test_descriptors(self):
        """The child has none of the parent's ring's, nor any left once it has closed its own."""
        assert script(FORKED + textwrap.dedent('''
            def count():
                before = len(os.listdir('/proc/self/fd'))
                work_on(loop)
                loop.close()
                return len(os.listdir('/proc/self/fd')) - before

            print(child(count))
            loop.close()
            ''')) == "(0, '0')\n"


class TestSlots(UringCase):
    """Registered files; and what has none."""

    @staticmethod
    def ring_with_limit(limit):
        """The ring of a loop that is made with so few descriptors allowed, and the loop."""
        before = set(ring_module.open_rings)
        with limited(limit):
            loop = uringloop.new_event_loop(require_uring=True)
        [ring] = set(ring_module.open_rings) - before
        return ring, loop

    @pytest.mark.parametrize('limit', [64, 512, 1024, 5000])
    def test_certified(self, limit):
        """However few descriptors there may be, the death of a ring is seen."""
        if limit > resource.getrlimit(resource.RLIMIT_NOFILE)[1]:
            pytest.skip('RLIMIT_NOFILE is lower')
        ring, loop = self.ring_with_limit(limit)
        assert ring.files.has_marker
        assert ring.files.slot_count == min(limit, 4096)
        loop.close()

    def test_the_limit_is_the_programs(self):
        """liburing would raise it."""
        with limited(256):
            uringloop.new_event_loop(require_uring=True).close()
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256

    def test_slots_are_used_again(self):
        async def main():
            for _ in range(200):
                transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
                transport.sendto(b'x', transport.get_extra_info('sockname'))
                await protocol.until(lambda p: p.datagrams)
                transport.close()
                await protocol.until(lambda p: p.lost)

        ring, loop = self.ring_with_limit(64)
        self.loop.close()
        self.loop = loop
        self.run(main())
        assert ring.files.slots_used <= 3

    def test_number_of_another_socket(self):
        """Without a slot: what would leave by the socket that got the number does not leave."""
        async def main():
            with udp() as receiver:
                many = [await endpoint(local_addr=('127.0.0.1', 0)) for _ in range(70)]
                sock = udp()
                mine = sock.getsockname()
                transport, protocol = await endpoint(sock=sock)
                await settle()
                transport.sendto(b'1', receiver.getsockname())
                number = sock.fileno()
                sock.close()
                with udp() as other:
                    assert other.fileno() == number
                    transport.sendto(b'2', receiver.getsockname())
                    await protocol.until(lambda p: p.lost or p.errors)
                    await settle()
                    other.sendto(b'last', receiver.getsockname())
                    data, address = b'', None
                    while data != b'last':
                        assert address in (None, mine)
                        data, address = await self.loop.sock_recvfrom(receiver, 100)
                    transport.abort()
                for transport, _ in many:
                    transport.close()

        ring, loop = self.ring_with_limit(64)
        self.loop.close()
        self.loop = loop
        self.run(main())
        assert ring.files.slots_used == 64


class TestEnd(UringCase):

    def test_no_certificate(self):
        """A ring whose death will not be seen."""
        ring = ring_module.Ring(OperationTable(), 8, 16, 1 << 20)
        assert not ring.files.has_marker
        assert ring.close(-1, 0) == []

    def test_memory_without_a_witness_is_kept(self):
        memory = [object()]
        orphans.keep_until_dead(-1, OperationTable(), 0, memory)
        try:
            orphans.release_dead()
            assert memory
            assert self.loop.stats().rings_orphaned == 1
        finally:
            orphans.orphaned_rings.clear()

    def test_interrupted_while_the_loop_moves(self, monkeypatch):
        """Ctrl-C while another thread's ring dies: the loop can run again, and is woken."""
        def interrupted(*_):
            raise KeyboardInterrupt

        def move():
            coroutine = self.talk(transport, protocol)
            with pytest.raises(KeyboardInterrupt):
                self.loop.run_until_complete(coroutine)
            coroutine.close()
            monkeypatch.undo()
            self.run(self.talk(transport, protocol))

        transport, protocol = self.run(endpoint(local_addr=('127.0.0.1', 0)))
        self.run(self.talk(transport, protocol))
        monkeypatch.setattr(ring_module, 'hung_up', interrupted)
        thread(move)
        transport.abort()
        for witness, *_ in orphans.orphaned_rings:
            assert orphans.hung_up(witness, 10)
        assert self.loop.stats().rings_orphaned == 1
        orphans.release_dead()
        thread(lambda: self.run(settle()))

    async def talk(self, transport, protocol):
        protocol.datagrams.clear()
        transport.sendto(b'x', transport.get_extra_info('sockname'))
        await protocol.until(lambda p: p.datagrams)
        woken = self.loop.create_future()
        thread(lambda: self.loop.call_soon_threadsafe(woken.set_result, None))
        await woken

    @needs_root
    def test_closed_while_closing(self):
        """By the finalizer of what the kernel gives back while the loop waits for it."""
        class Closing(bytearray):
            def __del__(self):
                loop.close()
                try:
                    loop.run_forever()
                except RuntimeError as exc:
                    seen.append((loop.is_closed(), str(exc)))

        async def main():
            transport, protocol = await endpoint(sock=wire.socket())
            wire.hold()
            for _ in range(3):
                transport.sendto_zerocopy(Closing(20_000), wire.peer)
            await turns_until(lambda: loop.stats().datagrams_sent == 3)
            transport.abort()
            await protocol.until(lambda p: p.lost)
            threading.Timer(0.2, wire.release).start()

        seen = []
        loop = self.new_loop()
        with Wire() as wire:
            loop.run_until_complete(main())
            loop.close()
        assert seen == [(False, 'the loop is being closed')] * 3
        assert loop.is_closed()

    @needs_root
    @pytest.mark.parametrize('limit', [128, 1024])
    def test_held_memory(self, limit):
        """close() takes a second at most, and what the kernel has is kept until it has let go."""
        async def main():
            transport, protocol = await endpoint(sock=wire.socket())
            wire.hold()
            transport.sendto_zerocopy(Lent(20_000), wire.peer)
            await turns_until(lambda: asyncio.get_running_loop().stats().datagrams_sent)
            transport.abort()
            await protocol.until(lambda p: p.lost)

        class Lent(bytearray):
            def __del__(self):
                gone.append(True)

        gone = []
        with Wire() as wire:
            with limited(limit):
                loop = self.new_loop()
            loop.run_until_complete(main())
            begin = time.monotonic()
            loop.close()
            assert time.monotonic() - begin < 2
            assert loop.stats().rings_orphaned == 1
            other = self.new_loop()
            other.run_until_complete(asyncio.sleep(0))
            other.close()
            assert not gone
            wire.release()
            assert orphans.hung_up(orphans.orphaned_rings[0][0], 10)
            orphans.release_dead()
            gc.collect()
            assert gone
            assert loop.stats().rings_orphaned == 0


# Receives until there is no memory; then something small still works.
EXHAUSTED = WORK + '''
import resource, threading

problems = []
payload = bytes(60_000)

class Keeping(Recorder):
    def connection_made(self, transport):
        super().connection_made(transport)
        made.set_result(self)

    def data_received(self, data):
        self.datagram_received(data, None)

    def eof_received(self):
        pass

def feed(sock, size, address):
    try:
        while not over.is_set():
            if address is None:
                sock.sendall(payload[:size])
            else:
                sock.sendto(payload[:size], address)
    except OSError:
        pass

async def main(kind, size):
    global made, over
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: problems.append(context['exception']))
    made = loop.create_future()
    over = threading.Event()
    if kind == 'stream':
        server = await loop.create_server(Keeping, '127.0.0.1', 0)
        sock = socket.create_connection(server.sockets[0].getsockname())
        address = None
    else:
        server, _ = await loop.create_datagram_endpoint(Keeping, local_addr=('127.0.0.1', 0))
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        address = server.get_extra_info('sockname')
    protocol = await made
    lost = loop.create_future()
    protocol.connection_lost = lost.set_result
    thread = threading.Thread(target=feed, args=(sock, size, address))
    thread.start()
    await protocol.until(lambda p: len(p.datagrams) > 8)
    with open('/proc/self/status') as status:
        used = int(status.read().split('VmSize:')[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), -1))
    over_with = await lost
    over.set()
    protocol.datagrams.clear()
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    sock.close()
    thread.join()
    server.close()
    return type(over_with).__name__, [type(problem).__name__ for problem in problems]

loop = uringloop.new_event_loop(require_uring=True)
print(loop.run_until_complete(asyncio.wait_for(main(*PARAMETERS), 20)))
print(work_on(loop))
loop.close()
'''


@pytest.mark.parametrize('parameters', [
    ('datagrams', 9000), ('datagrams', 60_000), ('stream', 9000), ('stream', 60_000)])
def test_no_memory_left(parameters):
    """MemoryError while something is received ends that transport, and is reported, as asyncio."""
    said, worked = script(EXHAUSTED.replace('*PARAMETERS', repr(parameters)[1:-1])).splitlines()
    assert said == "('MemoryError', ['MemoryError'])"
    assert worked == 'Loop'


def blocked():
    """How many threads of this machine are waiting for a disk."""
    [line] = [line for line in Path('/proc/stat').read_text().splitlines()
              if line.startswith('procs_blocked')]
    return int(line.split()[1])


IDLE = '''
import asyncio, threading
import uringloop

async def idle():
    end = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(ready.release)
    await end

def run():
    loop = uringloop.new_event_loop(require_uring=True, busy_poll=0)
    loop.run_until_complete(idle())

ready = threading.Semaphore(0)
for _ in range(30):
    threading.Thread(target=run, daemon=True).start()
for _ in range(30):
    ready.acquire()
print('ready', flush=True)
input()
'''


@pytest.mark.skipif(tuple(map(int, os.uname().release.split('.')[:2])) < (6, 15),
                    reason='IORING_ENTER_NO_IOWAIT is new in Linux 6.15')
def test_idle_is_not_waiting_for_a_disk():
    with subprocess.Popen([sys.executable, '-c', IDLE], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as idle:
        try:
            assert idle.stdout.readline() == b'ready\n'
            # Other programs come and go; the threads would stay.
            least = min(blocked() for _ in range(50) if not time.sleep(0.01))
        finally:
            idle.kill()
    assert least < 15


def test_dropped_endpoint_collected_in_another_thread():
    """Its port is free again once the loop has had its turn."""
    async def main():
        transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
        address = transport.get_extra_info('sockname')
        await asyncio.sleep(0)
        transport.pause_reading()
        while 'read=polling' in repr(transport):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)              # nothing of the loop refers to it now
        protocol.cycle = [protocol, transport]        # for the collector only
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            del transport, protocol
            collector = threading.Thread(target=gc.collect)
            collector.start()
            collector.join()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while True:
                try:
                    sock.bind(address)
                    return
                except OSError:  # noqa: PERF203
                    await asyncio.sleep(0.001)

    loop = uringloop.new_event_loop(require_uring=True)
    loop.run_until_complete(asyncio.wait_for(main(), 5))
    loop.close()
