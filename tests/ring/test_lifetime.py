"""Threads, forks, garbage and the interpreter's end: who may touch a ring, and what outlives it."""
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import warnings
import weakref

import pytest

import uringloop
from tests.support.cases import UringCase, assert_no_leaks
from tests.support.namespaces import Wire, needs_root
from tests.support.process import descriptors, in_thread
from tests.support.programs import outcome
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import udp
from tests.support.turns import settle, turns_until
from uringloop.ring import orphans


async def talk(one, two):
    """Each of two ``(transport, Recorder)`` sends to the other, three ways."""
    for (sender, _), (receiver, received) in ((one, two), (two, one)):
        received.datagrams.clear()
        address = receiver.get_extra_info('sockname')
        sender.sendto(b'short', address)
        sender.sendto(bytes(20_000), address)
        assert await sender.sendto_zerocopy(bytearray(1000), address) == (1000, True)
        await received.until(lambda p: len(p.datagrams) == 3)
        assert received.datagrams == [b'short', bytes(20_000), bytes(1000)]


class TestThreads(UringCase):

    def test_runs_in_another_thread(self):
        """What was armed on the first thread's ring goes on, on the second's."""
        async def first():
            pair = [await endpoint(local_addr=('127.0.0.1', 0)) for _ in range(2)]
            await talk(*pair)
            task = asyncio.ensure_future(self.loop.sock_recvfrom(sock, 100))
            await asyncio.sleep(0)
            return pair, task

        async def second(pair, task):
            await talk(*pair)
            pair[0][0].sendto(b'to the pending call', sock.getsockname())
            assert (await task)[0] == b'to the pending call'
            assert await self.loop.sock_sendto(sock, b'x', sock.getsockname()) == 1
            assert (await self.loop.sock_recvfrom(sock, 100))[0] == b'x'

        async def third(pair):
            await talk(*pair)
            for transport, protocol in pair:
                transport.close()
                await protocol.until(lambda p: p.lost)
                assert not protocol.errors

        with udp() as sock:
            pair, task = self.run(first())
            in_thread(lambda: self.run(second(pair, task)))
            self.run(third(pair))
        assert not self.problems

    def test_sent_between_two_threads(self):
        """What is sent while the loop does not run, and its ring is another thread's."""
        async def first():
            return [await endpoint(local_addr=('127.0.0.1', 0)) for _ in range(2)]

        async def second(pair):
            await pair[1][1].until(lambda p: len(p.datagrams) == 2)
            assert pair[1][1].datagrams == [b'first', b'second']
            for transport, protocol in pair:
                transport.close()
                await protocol.until(lambda p: p.lost)

        pair = self.run(first())
        address = pair[1][0].get_extra_info('sockname')

        def other():
            pair[0][0].sendto(b'first', address)
            pair[0][0].sendto(b'second', address)

        in_thread(other)
        self.run(second(pair))

    def test_wakes_across_threads(self):
        async def main():
            future = self.loop.create_future()
            in_thread(lambda: self.loop.call_soon_threadsafe(future.set_result, 'woken'))
            return await future

        async def asleep():
            future = self.loop.create_future()
            started = threading.Event()

            def other():
                started.wait()
                self.loop.call_soon_threadsafe(future.set_result, 'woken')

            thread = threading.Thread(target=other)
            thread.start()
            started.set()
            assert await future == 'woken'
            thread.join()

        for _ in range(3):
            assert self.run(main()) == 'woken'
            self.run(asleep())
            in_thread(lambda: self.run(asleep()))

    @pytest.mark.parametrize('runs_in', ['this thread', 'another'])
    def test_closed_by_another_thread(self, runs_in):
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            address = transport.get_extra_info('sockname')
            transport.sendto(bytes(20_000), address)
            task = asyncio.ensure_future(self.loop.sock_recv(sock, 10))
            await protocol.until(lambda p: p.datagrams)
            task.cancel()
            await asyncio.wait([task])
            transport.abort()
            pending = asyncio.ensure_future(self.loop.sock_recv(sock, 10))
            await asyncio.sleep(0)
            return pending

        with udp() as sock:
            if runs_in == 'this thread':
                pending = self.run(main())
                in_thread(self.loop.close)
            else:
                pending = in_thread(lambda: self.run(main()))
                self.loop.close()
            pending._log_destroy_pending = False
            del pending
        closed, self.loop = self.loop, self.new_loop()
        assert closed.is_closed()
        gc.collect()
        assert_no_leaks(closed)

    def test_thread_ends_with_its_loop_unclosed(self):
        before = descriptors()

        def forgetful():
            async def main():
                transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
                transport.sendto(bytes(20_000), transport.get_extra_info('sockname'))
                await protocol.until(lambda p: p.datagrams)
                return transport

            loop = self.new_loop()
            return loop, loop.run_until_complete(main())

        loop, transport = in_thread(forgetful)
        transport.abort()
        loop.run_until_complete(settle())
        loop.close()
        assert_no_leaks(loop)
        assert descriptors() == before


FORK = '''
    import asyncio, gc, os, socket
    import uringloop
    from tests.support.cases import assert_no_leaks
    from tests.support.protocols import endpoint
    from tests.support.turns import settle

    async def echo_to_oneself(size=20_000):
        transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
        transport.sendto(bytes(size), transport.get_extra_info('sockname'))
        await asyncio.wait_for(protocol.until(lambda p: p.datagrams), 10)
        return transport, protocol

    def must_name_fork(call, *args):
        try:
            call(*args)
        except RuntimeError as exc:
            assert 'fork' in str(exc), exc
        else:
            os._exit(3)

    def new_loop_works():
        loop = uringloop.new_event_loop(require_uring=True)
        transport, _ = loop.run_until_complete(echo_to_oneself())
        transport.abort()
        loop.run_until_complete(settle())
        loop.close()
        assert_no_leaks(loop)

    loop = uringloop.new_event_loop(require_uring=True)
'''


def test_fork():
    """The child cannot use the loop, can have one of its own, and does not keep the port."""
    assert outcome(FORK + '''
    transport, protocol = loop.run_until_complete(echo_to_oneself())
    address = transport.get_extra_info('sockname')
    transport.sendto(b'in flight', address)
    future = transport.sendto_zerocopy(bytearray(20_000), address)
    told, tell = os.pipe()
    end, finish = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(finish)
        must_name_fork(loop.run_forever)
        transport.sendto(b'from the child', address)      # its ring is not needed for that
        os.close(transport.get_extra_info('socket').fileno())
        new_loop_works()
        loop.close()
        os.write(tell, b'!')
        os.read(end, 1)
        os._exit(0)
    os.close(tell)
    assert os.read(told, 1) == b'!', 'the child has died'
    loop.run_until_complete(asyncio.wait_for(protocol.until(lambda p: len(p.datagrams) == 4), 10))
    assert protocol.datagrams[1:] == [b'in flight', bytes(20_000), b'from the child']
    assert loop.run_until_complete(future) == (20_000, True)
    transport.close()
    loop.run_until_complete(asyncio.wait_for(protocol.until(lambda p: p.lost), 10))
    loop.close()
    assert_no_leaks(loop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
    os.close(finish)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ''') == (0, '')


def test_fork_inside_a_coroutine():
    assert outcome(FORK + '''
    async def main():
        transport, protocol = await echo_to_oneself()
        child = os.fork()
        if child == 0:
            # Tasks of Python 3.14 say that the loop, in the child, is not the running one.
            loop.set_exception_handler(lambda loop, context: None)
            return None
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        transport.sendto(b'still here', transport.get_extra_info('sockname'))
        await asyncio.wait_for(protocol.until(lambda p: len(p.datagrams) == 2), 10)
        transport.close()
        await asyncio.wait_for(protocol.until(lambda p: p.lost), 10)
        return 'parent'

    parent = os.getpid()
    try:
        assert loop.run_until_complete(main()) == 'parent'
    except RuntimeError as exc:
        assert os.getpid() != parent
        assert 'fork' in str(exc)
        new_loop_works()
        os._exit(0)
    if os.getpid() != parent:
        new_loop_works()
        os._exit(0)
    loop.close()
    assert_no_leaks(loop)
    ''') == (0, '')


def test_exit_of_a_forked_child():
    """A child that leaves by ``sys.exit`` tears its copies down, and harms nothing."""
    assert outcome(FORK + '''
    import sys
    transport, protocol = loop.run_until_complete(echo_to_oneself())
    child = os.fork()
    if child == 0:
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    transport.sendto(b'still here', transport.get_extra_info('sockname'))
    loop.run_until_complete(asyncio.wait_for(protocol.until(lambda p: len(p.datagrams) == 2), 10))
    transport.abort()
    loop.run_until_complete(settle())
    loop.close()
    ''') == (0, '')


@needs_root
def test_many_loops_of_an_unprivileged_user():
    """Teardown of rings is asynchronous, and locked memory small: it is waited for."""
    assert outcome('''
    import asyncio, os, resource
    import uringloop
    from tests.support.cases import assert_no_leaks
    from tests.support.protocols import endpoint
    from tests.support.turns import settle

    resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))
    os.setgroups([])
    os.setgid(65534)
    os.setuid(60000 + os.getpid() % 5000)

    async def main():
        transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
        transport.sendto(b'x', transport.get_extra_info('sockname'))
        await protocol.until(lambda p: p.datagrams)
        transport.close()
        await protocol.until(lambda p: p.lost)

    for i in range(3000):
        loop = uringloop.new_event_loop(require_uring=True)
        loop.run_until_complete(asyncio.sleep(0) if i % 10 else main())
        loop.close()
        if i % 100 == 0:
            assert_no_leaks(loop)
    ''', timeout=120) == (0, '')


class TestGarbage(UringCase):

    def test_descriptors(self):
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            transport.sendto(bytes(20_000), transport.get_extra_info('sockname'))
            await protocol.until(lambda p: p.datagrams)
            loop = asyncio.get_running_loop()
            with udp() as sock:
                readable = loop.create_future()
                loop.add_reader(sock, readable.set_result, None)
                transport.sendto(b'x', sock.getsockname())
                await readable
                loop.remove_reader(sock)
            transport.close()
            await protocol.until(lambda p: p.lost)

        def once():
            loop = self.new_loop()
            loop.run_until_complete(main())
            loop.close()

        once()
        before = descriptors()
        for _ in range(50):
            once()
        assert descriptors() == before

    def test_loop_never_run(self):
        before = descriptors()
        loop = self.new_loop()
        loop.close()
        assert_no_leaks(loop)
        loop = self.new_loop()
        with pytest.warns(ResourceWarning, match='unclosed event loop'):
            del loop
            gc.collect()
        assert descriptors() == before

    @pytest.mark.parametrize('armed', [False, True])
    def test_loop_dropped_without_close(self, armed):
        async def main():
            if armed:
                transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
                transport.sendto(bytes(20_000), transport.get_extra_info('sockname'))
                await protocol.until(lambda p: p.datagrams)

        before = descriptors()
        loop = self.new_loop()
        loop.run_until_complete(main())
        gone = weakref.ref(loop)
        with pytest.warns(ResourceWarning, match='unclosed') as caught:
            del loop
            gc.collect()
            gc.collect()
        caught.list.clear()          # each refers to what was not closed
        gc.collect()
        assert gone() is None
        orphans.bury()
        assert descriptors() == before

    def test_transport_dropped_without_close(self):
        """As in asyncio it goes on receiving, until the loop is closed."""
        async def main():
            _, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            address = protocol.transport.get_extra_info('sockname')
            gone = weakref.ref(protocol.transport)
            del protocol.transport, _
            gc.collect()
            with udp() as sock:
                sock.sendto(b'are you there', address)
                await protocol.until(lambda p: p.datagrams)
            return gone

        gone = self.run(main())
        closed, self.loop = self.loop, self.new_loop()
        with pytest.warns(ResourceWarning, match='unclosed transport'):
            closed.close()
            gc.collect()
        assert gone() is None
        assert_no_leaks(closed)

    @needs_root
    def test_cycle_collected_while_the_kernel_holds_the_buffer(self):
        async def main(wire):
            wire.hold()
            transport, protocol = await endpoint(sock=wire.socket())
            data = bytearray(20_000)
            memory = memoryview(data)
            transport.sendto(bytes(20_000), wire.peer)
            transport.sendto_zerocopy(memory, wire.peer)
            memory.release()
            await turns_until(lambda: self.loop.stats().datagrams_sent == 2)
            assert protocol.transport is transport
            transport.abort()
            await protocol.until(lambda p: p.lost)
            gone = weakref.ref(transport), weakref.ref(protocol)
            del transport, protocol
            gc.collect()
            assert self.loop.stats().bytes_pinned == 40_000
            with pytest.raises(BufferError):
                data.clear()
            wire.release()
            await turns_until(lambda: self.loop.stats().buffers_released == 2)
            await asyncio.sleep(0)
            data.clear()
            gc.collect()
            assert [ref() for ref in gone] == [None, None]
            assert self.loop.stats().bytes_pinned == 0

        with Wire() as wire:
            self.run(main(wire))

    @pytest.mark.parametrize('name', [
        'sock_recv', 'sock_recvfrom', 'sock_recv_into', 'sock_recvfrom_into', 'sock_accept',
        'sock_sendto', 'sock_sendto_zerocopy', 'sock_sendall'])
    def test_loop_closed_with_a_call_pending(self, name):
        """The call, its buffer and the loop itself are let go of."""
        async def main():
            kind = socket.SOCK_DGRAM if 'sendto' in name else socket.SOCK_STREAM
            mine, other = socket.socketpair(socket.AF_UNIX, kind)
            sockets.extend((mine, other))
            address = f'\0{name}-{os.getpid()}'.encode()
            other.bind(address)
            arguments = {'sock_recv': (100,), 'sock_recvfrom': (100,),
                         'sock_recv_into': (memory,), 'sock_recvfrom_into': (memory,),
                         'sock_sendto': (memory, address),
                         'sock_sendto_zerocopy': (memory, address),
                         'sock_sendall': (memory,), 'sock_accept': ()}[name]
            if name == 'sock_accept':
                mine = socket.create_server(('127.0.0.1', 0))
                sockets.append(mine)
            mine.setblocking(False)
            if 'send' in name:
                with pytest.raises(BlockingIOError):
                    while True:
                        mine.send(b'full')
            task = asyncio.ensure_future(getattr(self.loop, name)(mine, *arguments))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not task.done()
            assert self.loop.stats().operations_in_flight >= 2
            return task

        sockets = []
        memory = bytearray(100)
        task = self.run(main())
        closed, self.loop = self.loop, self.new_loop()
        closed.close()
        if isinstance(task, asyncio.Task):
            task._log_destroy_pending = False
        elif task.done() and not task.cancelled():
            task.exception()
        del task
        for sock in sockets:
            sock.close()
        gc.collect()
        assert_no_leaks(closed)
        memory.clear()
        gone = weakref.ref(closed)
        del closed
        gc.collect()
        assert gone() is None

    def test_future_with_callbacks_when_the_loop_is_closed(self):
        async def main():
            transport, _ = await endpoint(sock=udp())
            with udp() as other:
                address = other.getsockname()
            futures = [transport.sendto_zerocopy(bytes(20_000), address) for _ in range(100)]
            for future in futures:
                future.add_done_callback(called.append)
            return futures, transport

        called = []
        futures, transport = self.run(main())
        transport.abort()
        self.loop.run_until_complete(settle())
        closed, self.loop = self.loop, self.new_loop()
        closed.close()
        assert all(future.done() for future in futures)
        for future in futures:
            future.exception()
        assert_no_leaks(closed)


def failing(name):
    """A protocol whose method of that name raises, once it has recorded the call."""
    class Failing(Recorder):
        pass

    def fail(self, *args):
        getattr(Recorder, name)(self, *args)
        raise ZeroDivisionError

    setattr(Failing, name, fail)
    return Failing()


class TestExceptions(UringCase):
    """What user code raises comes out where asyncio lets it out, and the loop goes on."""

    def test_keyboard_interrupt_in_a_protocol(self):
        class Interrupting(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data == b'1':
                    raise KeyboardInterrupt

        async def first():
            transport, protocol = await self.loop.create_datagram_endpoint(
                Interrupting, local_addr=('127.0.0.1', 0))
            pair.extend((transport, protocol))
            with udp() as sock:
                for i in range(5):
                    sock.sendto(b'%d' % i, transport.get_extra_info('sockname'))
                await self.loop.create_future()

        async def second():
            await pair[1].until(lambda p: len(p.datagrams) == 5)
            assert pair[1].datagrams == [b'0', b'1', b'2', b'3', b'4']
            pair[0].close()
            await pair[1].until(lambda p: p.lost)

        pair = []
        task = self.loop.create_task(first())
        with pytest.raises(KeyboardInterrupt):
            self.loop.run_until_complete(task)
        task.cancel()
        self.run(second())

    @pytest.mark.parametrize('name', ['datagram_received', 'error_received'])
    def test_protocol_method_raises(self, name):
        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                lambda: failing(name), local_addr=('127.0.0.1', 0))
            address = transport.get_extra_info('sockname')
            transport.sendto(bytes(1000), address)
            # What asyncio tells at the call comes out of it.
            with pytest.raises(ZeroDivisionError) if name == 'error_received' \
                    else contextlib.nullcontext():
                transport.sendto(bytes(70_000), address)
            transport.sendto(b'last', address)
            await protocol.until(lambda p: len(p.datagrams) == 2 and p.errors)
            await asyncio.sleep(0)
            assert protocol.datagrams == [bytes(1000), b'last']
            assert [type(context['exception']) for context in self.problems] == \
                [ZeroDivisionError] * (2 if name == 'datagram_received' else 0)
            transport.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    @pytest.mark.parametrize('name', ['pause_writing', 'resume_writing'])
    def test_flow_control_raises(self, name):
        async def main():
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            near.setblocking(False)
            far.setblocking(False)
            transport, protocol = await self.loop.create_datagram_endpoint(
                lambda: failing(name), sock=near)
            transport.set_write_buffer_limits(high=100)
            sent = 0
            while not protocol.pauses:
                transport.sendto(b'%0100d' % sent)
                sent += 1
            received = []
            while not protocol.resumes:
                received.append(await self.loop.sock_recv(far, 1000))
            transport.sendto(b'last')
            while received[-1] != b'last':
                received.append(await self.loop.sock_recv(far, 1000))
            assert received == [b'%0100d' % i for i in range(sent)] + [b'last']
            assert [type(context['exception']) for context in self.problems] == [ZeroDivisionError]
            transport.close()
            far.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    @pytest.mark.parametrize('name', ['connection_made', 'connection_lost'])
    def test_protocol_fails_at_the_edges(self, name):
        class Failing(Recorder):
            pass

        def fail(self, *args):
            getattr(Recorder, name)(self, *args)
            raise ZeroDivisionError

        setattr(Failing, name, fail)

        async def main():
            sock = udp()
            transport, protocol = await self.loop.create_datagram_endpoint(Failing, sock=sock)
            transport.sendto(b'x', transport.get_extra_info('sockname'))
            await protocol.until(lambda p: p.datagrams)
            transport.close()
            await protocol.until(lambda p: p.lost)
            await asyncio.sleep(0)
            assert sock.fileno() == -1
            assert [type(context['exception']) for context in self.problems] == [ZeroDivisionError]

        self.run(main())


class TestRegistry(UringCase):

    def test_a_subclass_with_a_finalizer_of_its_own(self):
        """Which descriptor a transport has is forgotten with it, whatever its class does."""
        class Transport(uringloop.DatagramTransport):
            def __del__(self):
                gone.append(True)

        gone = []

        async def main():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(('127.0.0.1', 0))
            transport = Transport(self.loop, sock, asyncio.DatagramProtocol())
            fd = sock.fileno()
            assert self.loop._transports[fd] is transport
            with pytest.raises(RuntimeError, match='is used by transport'):
                await self.loop.sock_recv(sock, 1)
            await asyncio.sleep(0)
            transport.pause_reading()
            await asyncio.sleep(0.01)
            del transport
            gc.collect()
            assert gone
            assert self.loop._transports.get(fd) is None
            with pytest.raises(KeyError):
                _ = self.loop._transports[fd]
            sock.close()

        self.run(main())

    def test_a_dropped_endpoint_frees_its_port(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            address = transport.get_extra_info('sockname')
            await asyncio.sleep(0)
            transport.pause_reading()
            await asyncio.sleep(0.01)
            del transport, _
            gc.collect()
            await asyncio.sleep(0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(address)

        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            self.run(main())

    def test_interrupted_while_events_are_processed(self):
        """Descriptors of add_reader are watched on."""
        reading, writing = os.pipe()
        got = []
        self.loop.add_reader(reading, lambda: (got.append(os.read(reading, 1)),
                                               self.loop.stop()))

        def interrupted(handle):
            del self.loop._add_callback
            raise KeyboardInterrupt

        self.loop._add_callback = interrupted
        os.write(writing, b'!')
        with pytest.raises(KeyboardInterrupt):
            self.forever()
        self.forever()
        assert got == [b'!']
        self.loop.remove_reader(reading)
        for fd in (reading, writing):
            os.close(fd)


class TestSignals(UringCase):

    @pytest.fixture(autouse=True)
    def _alarm(self, _fresh_loop):
        handler = signal.getsignal(signal.SIGALRM)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)

    def test_keyboard_interrupt_while_asleep(self):
        def interrupt(number, frame):
            raise KeyboardInterrupt

        async def asleep():
            pair.extend(await endpoint(local_addr=('127.0.0.1', 0)))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            await self.loop.create_future()

        async def awake():
            transport, protocol = pair
            transport.sendto(b'x', transport.get_extra_info('sockname'))
            await protocol.until(lambda p: p.datagrams)
            transport.close()
            await protocol.until(lambda p: p.lost)

        pair = []
        signal.signal(signal.SIGALRM, interrupt)
        task = self.loop.create_task(asleep())
        with pytest.raises(KeyboardInterrupt):
            self.loop.run_until_complete(task)
        task.cancel()
        self.run(awake())

    def test_handler_that_raises_nothing(self):
        """A signal interrupts the sleep, its handler runs, and the sleep goes on."""
        seen = []

        async def main():
            woken = self.loop.create_future()

            def handler(number, frame):
                seen.append(number)
                if len(seen) == 3:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    self.loop.call_soon_threadsafe(woken.set_result, None)

            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            await woken

        self.run(main())
        assert seen == [signal.SIGALRM] * 3

    def test_add_signal_handler(self):
        async def main():
            signalled = self.loop.create_future()
            self.loop.add_signal_handler(signal.SIGALRM, signalled.set_result, None)
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            await signalled
            self.loop.remove_signal_handler(signal.SIGALRM)

        self.run(main())

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='asyncio.Runner is new in 3.11')
    def test_interrupted_runner(self):
        async def main():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.append(True)

        cancelled = []
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
            with pytest.raises(KeyboardInterrupt):
                runner.run(main())
        assert cancelled == [True]


EXIT = '''
    import asyncio, os, socket, sys, threading
    import uringloop
    from tests.support.protocols import endpoint

    async def busy():
        loop = asyncio.get_running_loop()
        transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
        address = transport.get_extra_info('sockname')
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(('127.0.0.1', 0))
        task = loop.create_task(loop.sock_recvfrom(sock, 100))
        task._log_destroy_pending = False
        await asyncio.sleep(0)
        for _ in range(100):
            transport.sendto(bytes(20_000), address)
        transport.sendto_zerocopy(bytearray(20_000), address)
        transport.sendto(b'short', address)
        return transport, task, sock

    loop = uringloop.new_event_loop(require_uring=True)
'''


@pytest.mark.parametrize(('source', 'code'), [
    ('kept = loop.run_until_complete(busy())', 0),
    ('loop.run_until_complete(busy())', 0),
    ('kept = loop.run_until_complete(busy()); loop.close()', 0),
    ('kept = loop.run_until_complete(busy()); del loop', 0),
    ('''
    async def main():
        kept = await busy()
        sys.exit(7)
    loop.run_until_complete(main())''', 7),
    ('''
    async def main():
        kept = await busy()
        started.set()
        await loop.create_future()
    started = threading.Event()
    task = loop.create_task(main())
    task._log_destroy_pending = False
    threading.Thread(target=loop.run_until_complete, args=[task], daemon=True).start()
    started.wait()''', 0),
])
def test_interpreter_exits_with_operations_in_flight(source, code):
    assert outcome(EXIT + '    ' + source.strip()) == (code, '')
