"""The program's code where a loop expects none: finalizers, buffers, contexts, factories."""
import asyncio
import contextlib
import contextvars
import socket
import sys
import threading

import pytest

import uringloop
from tests.support.cases import UringCase, assert_no_leaks, both_sides
from tests.support.programs import outcome
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import PAIRS, udp
from tests.support.streams import Recorder as StreamRecorder
from tests.support.streams import Streams


class Mortal(bytearray):
    """A buffer that has something done when the last reference to it is dropped."""

    def __del__(self):
        self.last_will()


class TestWhileCompletionsAreSettled(UringCase):
    """Code that runs in the middle of a batch of completions costs no other its own."""

    async def senders(self, peer, count=7):
        return [(await endpoint(remote_addr=peer))[0] for _ in range(count)]

    async def all_sent(self, futures):
        done, never = await asyncio.wait(futures, timeout=2)
        assert not never
        assert all(future.result().nbytes == 1000 for future in done)

    def test_exception_handler_closes_a_transport(self):
        """A future that failed and was forgotten is reported as soon as it is dropped."""
        async def main():
            with udp() as sink:
                last, *others = await self.senders(sink.getsockname())
                self.loop.set_exception_handler(lambda *_: (reported.append(True), last.close()))
                others[0].sendto_zerocopy(bytearray(70_000))
                await self.all_sent([sender.sendto_zerocopy(bytearray(1000))
                                     for sender in others[1:]])
                assert reported
                for sender in others:
                    sender.close()

        reported = []
        self.run(main())

    @pytest.mark.parametrize('last_will', ['close', 'abort', 'send'])
    def test_finalizer_of_a_lent_buffer(self, last_will):
        async def main():
            with udp() as sink, udp() as sock:
                peer = sink.getsockname()
                last, *others = await self.senders(peer)
                late = []
                buffer = Mortal(1000)
                buffer.last_will = {
                    'close': last.close,
                    'abort': last.abort,
                    'send': lambda: late.append(
                        self.loop.sock_sendto_zerocopy(sock, bytes(1000), peer)),
                }[last_will]
                futures = [others[0].sendto_zerocopy(buffer)]
                del buffer
                futures += [sender.sendto_zerocopy(bytearray(1000)) for sender in others[1:]]
                await self.all_sent(futures)
                if last_will == 'send':
                    await self.all_sent(late)
                for sender in (last, *others):
                    sender.close()

        self.run(main())

    def test_keyboard_interrupt(self):
        """Wherever it comes, what the kernel has completed is done when the loop runs again."""
        assert outcome('''
            import asyncio, signal, socket
            import uringloop

            def interrupt(number, frame):
                # Once a round, and only where it is expected.
                global expected
                if expected:
                    expected = False
                    raise KeyboardInterrupt

            def send(delay):
                global expected, stopping
                futures.extend(sender.sendto_zerocopy(bytearray(1000)) for sender in senders)
                stopping = loop.call_later(0.004, loop.stop)
                expected = True
                signal.setitimer(signal.ITIMER_REAL, delay)

            async def open_senders():
                return [(await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, remote_addr=sink.getsockname()))[0]
                    for _ in range(8)]

            expected = False
            signal.signal(signal.SIGALRM, interrupt)
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sink.bind(('127.0.0.1', 0))
            loop = uringloop.new_event_loop(require_uring=True)
            senders = loop.run_until_complete(open_senders())
            for turn in range(100):
                futures = []
                loop.call_soon(send, 3e-6 + turn * 2e-6)
                try:
                    loop.run_forever()
                    expected = False
                except KeyboardInterrupt:
                    pass
                stopping.cancel()
                _, never = loop.run_until_complete(asyncio.wait(futures, timeout=2))
                assert not never, f'{len(never)} of {len(futures)} in turn {turn}'
            for sender in senders:
                sender.close()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            sink.close()
        ''') == (0, '')


class Shifting:
    """Whoever asks gets another piece of memory."""

    def __init__(self, size, others):
        self.size = size
        self.others = others

    def __buffer__(self, flags):
        self.others.append(bytearray(b'Z' * self.size))
        return memoryview(bytearray(b'A' * self.size))


class TestBuffers(UringCase):
    """Memory is what was exported, for as long as the kernel may use it."""

    python_buffers = pytest.mark.skipif(
        sys.version_info < (3, 12), reason='buffers in Python (PEP 688) are new in 3.12')

    @python_buffers
    def test_every_export_is_other_memory_sending(self):
        async def main():
            others = []
            with udp() as sink:
                transport, _ = await endpoint(remote_addr=sink.getsockname())
                report = await transport.sendto_zerocopy(Shifting(4096, others))
                assert report.nbytes == 4096
                assert await self.loop.sock_recv(sink, 5000) == b'A' * 4096
                transport.close()

        self.run(main())

    @python_buffers
    def test_every_export_is_other_memory_receiving(self):
        async def main():
            others = []
            one, two = socket.socketpair()
            with one, two:
                one.setblocking(False)
                task = asyncio.ensure_future(
                    self.loop.sock_recv_into(one, Shifting(4096, others)))
                for _ in range(3):
                    await asyncio.sleep(0)
                two.send(b'K' * 4096)
                assert await task == 4096
                assert not any(b'K' in other for other in others)

        self.run(main())

    def test_address_that_moves_the_memory(self):
        class Port:
            def __index__(self):
                data.extend(b'B' * 30_000)
                return number

        data = bytearray(b'A' * 1000)
        with udp() as sink, udp() as sock:
            number = sink.getsockname()[1]

            async def main():
                try:
                    await self.loop.sock_sendto(sock, data, ('127.0.0.1', Port()))
                except BufferError:
                    return          # asyncio's answer, as good
                assert await self.loop.sock_recv(sink, 65536) == data

            self.run(main())


class _TestContexts:
    """A callback whose context can't be entered is reported, and the others run."""

    def reported(self, caplog):
        # From 3.12 on asyncio calls the handler in that very context, and logs in the end.
        return len(self.problems) + len([r for r in caplog.records if r.name == 'asyncio'])

    def test_callback(self, caplog):
        async def main():
            self.loop.call_soon(ran.append, 'never', context=entered)
            self.loop.call_later(0, ran.append, 'nor this', context=entered)
            await asyncio.sleep(0.01)
            return 'alive'

        ran = []
        entered = contextvars.copy_context()
        assert entered.run(self.run, main()) == 'alive'
        assert not ran
        assert self.reported(caplog) >= 2

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks' contexts are new in 3.11")
    def test_task(self, caplog):
        async def work():
            ran.append(True)

        async def main():
            task = asyncio.create_task(coroutine, context=entered)
            await asyncio.sleep(0.01)
            assert not ran
            return task

        ran = []
        coroutine = work()
        entered = contextvars.copy_context()
        task = entered.run(self.run, main())
        assert self.reported(caplog)
        # Its first step will not be tried again.
        task._log_destroy_pending = False
        coroutine.close()

    def test_no_context_at_all(self, caplog):
        ran = []
        self.loop.call_soon(ran.append, 'never', context=42)
        self.loop.call_soon(ran.append, 'next')
        self.loop.call_soon(self.loop.stop)
        self.forever()
        assert ran == ['next']
        assert self.reported(caplog)


class _TestTaskFactory:

    def test_raises_while_a_connection_is_accepted(self):
        """It is reported, and the server serves the next one."""
        def factory(loop, coroutine, **how):
            coroutine.close()
            reported.set_result(None)
            raise ZeroDivisionError

        async def served(reader, writer):
            writer.close()

        async def main():
            nonlocal reported
            reported = self.loop.create_future()
            server = await asyncio.start_server(served, '127.0.0.1', 0)
            address = server.sockets[0].getsockname()
            with socket.create_connection(address):
                self.loop.set_task_factory(factory)
                # No task may be made meanwhile, so a plain wait.
                await reported
                for _ in range(3):
                    await asyncio.sleep(0)
                self.loop.set_task_factory(None)
            assert ZeroDivisionError in [type(p.get('exception')) for p in self.problems]
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.read() == b''
            writer.close()
            server.close()
            for _ in range(5):
                await asyncio.sleep(0)

        reported = None
        self.run(main())


class Amplifier(StreamRecorder):
    """Writes twice what it reads, and counts how often it is called in a turn."""

    calls_now = calls_at_most = 0

    def data_received(self, data):
        if not self.calls_now:
            asyncio.get_running_loop().call_soon(self.next_turn)
        self.calls_now += 1
        self.transport.write(data + data)

    def next_turn(self):
        self.calls_at_most = max(self.calls_at_most, self.calls_now)
        self.calls_now = 0


class Flood:
    """Calls ``send`` in a thread, for up to 3 seconds."""

    def __init__(self, send):
        self.send = send
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.end = threading.Timer(3, self.over.set)

    def run(self):
        while not self.over.is_set():
            with contextlib.suppress(OSError):
                self.send()

    def __enter__(self):
        self.thread.start()
        self.end.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.end.cancel()
        self.end.join()
        self.thread.join()


class _TestGreedyProtocols(Streams):
    """One busy socket whose every event makes more work leaves the timers their turns."""

    timeout = 10.0

    async def timers_run(self, flood, count):
        for _ in range(count):
            await asyncio.sleep(0.01)
        assert not flood.over.is_set(), 'timers waited for the end of the flood'

    def test_stream_that_writes_more_than_it_reads(self):
        async def main():
            near, far = PAIRS['tcp']()
            reading = threading.Thread(target=read_all, args=[far], daemon=True)
            protocol = await self.open(near, Amplifier)
            reading.start()
            with Flood(lambda: far.send(bytes(200_000))) as flood:
                await self.timers_run(flood, 50)
                far.shutdown(socket.SHUT_RDWR)
            assert protocol.calls_at_most < 100
            protocol.transport.abort()
            await protocol.until_lost()
            reading.join()
            far.close()

        def read_all(sock):
            try:
                while sock.recv(1 << 20):
                    pass
            except OSError:
                pass

        self.run(main())

    def test_datagram_protocol_that_answers_many_times(self):
        """Nor does the loop collect what the protocol has no time for."""
        class Answering(Recorder):
            handled = 0

            def datagram_received(self, data, addr):
                self.handled += 1
                for _ in range(70):
                    self.transport.sendto(bytes(100), addr)

        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                Answering, local_addr=('127.0.0.1', 0))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(transport.get_extra_info('sockname'))
                with Flood(lambda: sock.send(bytes(1400))) as flood:
                    await self.timers_run(flood, 5)
                    if self.uring:
                        received = self.loop.stats().datagrams_received
                        assert received - protocol.handled < 1000
            transport.abort()
            await protocol.until(lambda p: p.lost)

        self.run(main())


class TestTimers(UringCase):

    def test_not_a_number(self):
        """Nothing compares with it: one such timer would upset the order of all others."""
        nan = float('nan')
        with pytest.raises(ValueError):
            self.loop.call_later(nan, print)
        with pytest.raises(ValueError):
            self.loop.call_at(nan, print)
        self.loop.call_later(0.001, self.loop.stop)
        self.forever()


both_sides(globals(), _TestContexts, _TestTaskFactory, _TestGreedyProtocols)


@pytest.mark.parametrize('at', [1, 2, 3, 5, 8])
def test_interrupted_while_results_are_settled(at):
    """A KeyboardInterrupt in there costs nobody a completion, and none is settled twice."""
    class Interrupted(uringloop.Loop):
        left = 0

        def call_soon(self, *args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return super().call_soon(*args, **kwargs)

    async def main():
        receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
        address = receiver.get_extra_info('sockname')
        sender, _ = await endpoint(local_addr=('127.0.0.1', 0))
        for _ in range(5):
            sender.sendto(b'so that it counts as a bulk', address)
        await received.until(lambda p: len(p.datagrams) == 5)
        received.datagrams.clear()
        sent = [b'%03d' % i + bytes(20_000) for i in range(10)]
        reports = [sender.sendto_zerocopy(data, address) for data in sent]
        for report in reports:
            report.add_done_callback(lambda report: None)
        loop.left = at
        with contextlib.suppress(KeyboardInterrupt):
            sender.get_write_buffer_size()
        loop.left = 0
        await received.until(lambda p: len(p.datagrams) >= 10)
        await asyncio.sleep(0)
        assert received.datagrams == sent
        sender.close()
        receiver.close()

    loop = Interrupted()
    loop.run_until_complete(asyncio.wait_for(main(), 5))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert_no_leaks(loop)


def test_buffer_changed_while_others_leave_first():
    """What is being sent can't be resized by code that runs before it leaves."""
    class Changing(uringloop.Loop):
        frame = bytearray()

        def call_soon(self, *args, **kwargs):
            if self.frame:
                try:
                    self.frame.clear()
                except BufferError:
                    refused.append(True)
            return super().call_soon(*args, **kwargs)

    async def main():
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with far, udp() as peer:
            near.setblocking(False)
            deferring, _ = await endpoint(sock=near)
            sender, _ = await endpoint(remote_addr=peer.getsockname())
            for _ in range(10):
                deferring.sendto_zerocopy(b'x').add_done_callback(lambda report: None)
            frame = loop.frame = bytearray(b'frame' * 1000)
            sender.sendto(frame)
            loop.frame = bytearray()
            peer.settimeout(5)
            assert peer.recv(10_000) == b'frame' * 1000
            frame.clear()                # lent no more
            deferring.close()
            sender.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    refused = []
    loop = Changing()
    loop.run_until_complete(asyncio.wait_for(main(), 5))
    loop.close()
    assert refused
    assert_no_leaks(loop)
