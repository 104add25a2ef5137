"""The peer has shut its sending half, and does not read for a while."""
import asyncio
import os
import socket
import threading
import time

import pytest

from tests.support.cases import Case, UringCase, both_sides
from tests.support.sockets import PAIRS, reset
from tests.support.streams import Recorder
from tests.support.turns import turns, turns_until


class StaysOpen(Recorder):
    keep_open = True


class HalfClosed(Case):
    """A transport or a call that waits for such a peer."""

    kinds = pytest.mark.parametrize('kind', sorted(PAIRS))
    hows = pytest.mark.parametrize('how', ['transport', 'sock_sendall'])

    async def begin(self, kind, how, data):
        near, self.far = PAIRS[kind]()
        near.setblocking(False)
        self.far.setblocking(False)
        self.far.shutdown(socket.SHUT_WR)
        if how == 'transport':
            self.transport, self.protocol = await self.loop.create_connection(
                StaysOpen, sock=near)
            await self.protocol.until(lambda: 'eof' in self.protocol.calls)
            self.transport.write(data)
            self.sending = self.loop.create_task(self.protocol.until_lost())
        else:
            self.transport = None
            self.sending = asyncio.ensure_future(self.loop.sock_sendall(near, data))
            self.sending.add_done_callback(lambda _: near.close())

    async def received(self, length):
        received = bytearray()
        while len(received) < length:
            received += await self.loop.sock_recv(self.far, 1 << 20)
        return received

    async def end(self):
        if self.transport is not None:
            self.transport.close()
        await self.sending
        self.far.close()
        await turns(2)


class _TestHalfClosed(HalfClosed):

    @HalfClosed.hows
    @HalfClosed.kinds
    def test_waits_without_spinning(self, kind, how):
        async def main():
            data = os.urandom(1 << 23)
            await self.begin(kind, how, data)
            await asyncio.sleep(0.05)
            used = time.process_time()
            await asyncio.sleep(0.3)
            assert time.process_time() - used < 0.1
            assert await self.received(len(data)) == data
            await self.end()

        self.run(main())

    @HalfClosed.kinds
    def test_giving_up_leaves_nothing(self, kind):
        async def main():
            await self.begin(kind, 'sock_sendall', bytes(1 << 23))
            await turns(10)
            self.sending.cancel()
            await asyncio.wait([self.sending])
            self.far.close()
            await self.begin(kind, 'transport', bytes(1 << 23))
            await turns(10)
            self.transport.abort()
            await self.end()

        self.run(main())

    @HalfClosed.kinds
    def test_closed_while_it_waits_sends_the_rest(self, kind):
        async def main():
            data = os.urandom(1 << 23)
            await self.begin(kind, 'transport', data)
            await turns(10)
            self.transport.close()
            assert await self.received(len(data)) == data
            assert await self.loop.sock_recv(self.far, 1) == b''
            await self.end()

        self.run(main())

    @HalfClosed.hows
    @HalfClosed.kinds
    def test_a_peer_that_goes_away_is_noticed(self, kind, how):
        async def main():
            await self.begin(kind, how, bytes(1 << 23))
            await turns(10)
            if kind == 'tcp':
                reset(self.far)
            else:
                self.far.close()
            if how == 'transport':
                assert isinstance(await self.sending, ConnectionError)
            else:
                with pytest.raises(ConnectionError):
                    await self.sending
            await turns(2)

        self.run(main())

    @HalfClosed.kinds
    def test_fills_and_empties_again_and_again(self, kind):
        async def main():
            data = os.urandom(1 << 21)
            await self.begin(kind, 'transport', data)
            for _ in range(10):
                await turns(3)
                assert await self.received(len(data)) == data
                self.transport.write(data)
            assert await self.received(len(data)) == data
            await self.end()

        self.run(main())

    @HalfClosed.hows
    @HalfClosed.kinds
    def test_goes_on_in_another_thread(self, kind, how):
        data = os.urandom(1 << 23)

        async def begin():
            await self.begin(kind, how, data)
            await turns(10)

        async def go_on():
            assert await self.received(len(data)) == data
            await self.end()
            ended.append(True)

        ended: list[bool] = []
        self.run(begin())
        thread = threading.Thread(target=self.run, args=(go_on(),))
        thread.start()
        thread.join()
        assert ended


class TestWaiting(HalfClosed, UringCase):

    @HalfClosed.hows
    @HalfClosed.kinds
    def test_nothing_is_tried_before_there_is_room(self, kind, how):
        """Neither by a timer, nor by polls that end at once."""
        async def main():
            timers = len(self.loop._scheduled)
            data = os.urandom(1 << 23)
            await self.begin(kind, how, data)
            before = last = None
            while before is None or before != last:
                await turns(10)
                before, last = last, self.loop.stats().completions
            assert len(self.loop._scheduled) == timers
            before = self.loop.stats()
            await turns(200)
            after = self.loop.stats()
            assert after.completions == before.completions
            assert after.submissions == before.submissions
            assert await self.received(len(data)) == data
            await self.end()

        self.run(main())

    @HalfClosed.kinds
    def test_the_poll_ends_with_the_need_for_it(self, kind):
        """One that went on would keep a socket open that the program closes."""
        async def main():
            data = os.urandom(1 << 23)
            await self.begin(kind, 'transport', data)
            await turns(10)
            waiting = self.loop.stats().operations_live
            assert await self.received(len(data)) == data
            await turns_until(lambda: self.loop.stats().operations_live < waiting)
            await self.end()

        self.run(main())


both_sides(globals(), _TestHalfClosed)
