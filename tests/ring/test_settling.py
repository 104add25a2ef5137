"""Code of the program that runs in the middle of a batch of completions, and interrupts there."""
import asyncio
import contextlib

import pytest

import uringloop
from tests.support.cases import UringCase, assert_no_leaks
from tests.support.features import needs_feature
from tests.support.programs import outcome
from tests.support.protocols import endpoint
from tests.support.sockets import udp


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

    def test_an_exception_handler_closes_a_transport(self):
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
    def test_a_finalizer_of_a_lent_buffer_closes_or_sends(self, last_will):
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

    def test_a_keyboard_interrupt_costs_no_completion(self):
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


@needs_feature('send_zc')
@pytest.mark.parametrize('at', [1, 2, 3, 5, 8])
def test_an_interrupted_callback_costs_no_completion(at):
    """A KeyboardInterrupt in there costs nobody a completion, and none is settled twice."""
    class Interrupted(uringloop.Loop):
        left = 0

        def call_soon(self, *args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return super().call_soon(*args, **kwargs)

    async def main():
        receiver, received = await endpoint(sock=udp(room=8 << 20))
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
