"""What was said before an end leaves, and what came before it is heard."""
import socket
import threading

import pytest

from tests.support.cases import both_sides
from tests.support.protocols import Recorder as Datagrams
from tests.support.sockets import PAIRS
from tests.support.streams import Recorder, Streams, both_kinds
from tests.support.turns import turns


class _TestWrittenBefore(Streams):
    """asyncio sends at the call; so what follows the call does not call it back."""

    @both_kinds
    @pytest.mark.parametrize('end', ['abort', 'raise'])
    def test_an_answer_before_the_protocol_gives_up_leaves(self, kind, end):
        class Refusing(Recorder):
            def data_received(self, data):
                self.transport.write(b'bad request')
                if end == 'raise':
                    raise ZeroDivisionError
                self.transport.abort()

        async def main():
            near, peer = await self.half(Refusing, kind=kind)
            peer.send(b'?')
            await near.until_lost()
            assert await self.read_all(peer) == b'bad request'

        self.run(main())

    def test_a_datagram_sent_before_abort_leaves(self):
        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.bind(('127.0.0.1', 0))
                peer.setblocking(False)
                transport, protocol = await self.loop.create_datagram_endpoint(
                    Datagrams, remote_addr=peer.getsockname())
                transport.sendto(b'farewell')
                transport.abort()
                assert await self.loop.sock_recv(peer, 100) == b'farewell'
                await protocol.until(lambda p: p.lost)

        self.run(main())

    @both_kinds
    def test_what_is_written_after_close_does_not_leave(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(b'before')
            near.transport.close()
            near.transport.write(b'after')
            assert await self.read_all(peer) == b'before'

        self.run(main())

    @pytest.mark.parametrize('exception', [KeyboardInterrupt, SystemExit])
    def test_what_is_written_before_the_loop_is_left_leaves(self, exception):
        """The program may never run the loop again."""
        async def main():
            near.append(await self.open(one))
            near[0].transport.write(b'farewell')
            raise exception

        near = []
        self.opened = []
        one, peer = socket.socketpair()
        with peer:
            peer.setblocking(False)
            with pytest.raises(exception):
                self.loop.run_until_complete(main())
            assert peer.recv(100) == b'farewell'
            near[0].transport.abort()
            self.loop.run_until_complete(near[0].until_lost())

    @pytest.mark.parametrize('kind', ['tcp', 'udp'])
    def test_what_another_thread_sends_leaves_at_once(self, kind):
        """Not to be done, but with asyncio it arrives at once and not with the next event."""
        async def main():
            if kind == 'tcp':
                sock, peer = PAIRS[kind]()
                protocol = await self.open(sock)
                send = protocol.transport.write
            else:
                peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                peer.bind(('127.0.0.1', 0))
                transport, protocol = await self.loop.create_datagram_endpoint(
                    Datagrams, remote_addr=peer.getsockname())
                send = transport.sendto
            done = self.loop.create_future()

            def other():
                try:
                    with peer:
                        peer.settimeout(2)
                        # Time to fall asleep; if it does not, the test is only weaker.
                        threading.Event().wait(0.05)
                        send(b'psst')
                        received.append(peer.recv(100))
                finally:
                    self.loop.call_soon_threadsafe(done.set_result, None)

            thread = threading.Thread(target=other)
            thread.start()
            await done
            thread.join()
            protocol.transport.abort()
            await protocol.until(lambda *_: protocol.lost)

        received = []
        self.run(main())
        assert received == [b'psst']


class _TestReceivedBefore(Streams):

    @both_kinds
    def test_an_answer_that_came_before_a_write_failed_is_heard(self, kind):
        """A server that refuses an upload answers, closes, and resets what it has not read."""
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(bytes(8 << 20))
            await near.until(lambda: 'pause' in near.calls)
            await turns()
            # All in one turn: the loop learns of both at once.
            peer.send(b'413 too large')
            peer.close()
            await near.until_lost()
            assert near.data == b'413 too large'

        self.run(main())


both_sides(globals(), _TestWrittenBefore, _TestReceivedBefore)
