"""Streams are read when there is something, in asyncio's order, and as long as anybody wants it."""
import asyncio
import gc
import socket
import time
import warnings
import weakref

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.sockets import PAIRS
from tests.support.turns import turns, turns_until


class Exact(asyncio.BufferedProtocol):
    """Expects ten bytes, and has no room for more."""

    def __init__(self):
        self.buffer = bytearray(10)
        self.length = self.asked = 0

    def get_buffer(self, sizehint):
        self.asked += 1
        return memoryview(self.buffer)[self.length:]

    def buffer_updated(self, nbytes):
        self.length += nbytes


class _TestReadiness:

    @pytest.mark.parametrize('kind', PAIRS)
    @pytest.mark.parametrize('pieces', [[10], [5, 5], [9, 1]])
    def test_a_full_buffer_is_not_asked_for_until_something_comes(self, kind, pieces):
        async def main():
            here, there = PAIRS[kind]()
            here.setblocking(False)
            with there:
                transport, protocol = await self.loop.create_connection(Exact, sock=here)
                length = 0
                for piece in pieces:
                    there.send(bytes(piece))
                    length += piece
                    await turns_until(lambda length=length: protocol.length == length)
                await asyncio.sleep(0.01)
                assert protocol.asked == len(pieces)
                assert not transport.is_closing()
                transport.write(b'goes on')
                there.settimeout(2)
                assert there.recv(100) == b'goes on'
                transport.abort()
                await turns(3)

        self.run(main())

    @pytest.mark.parametrize('kind', PAIRS)
    def test_what_pauses_and_resumes_at_the_end_can_be_dropped(self, kind):
        class Holds(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def eof_received(self):
                self.transport.pause_reading()
                self.transport.resume_reading()
                told.append('eof')
                return True

        async def main():
            here, there = PAIRS[kind]()
            here.setblocking(False)
            with there:
                transport, protocol = await self.loop.create_connection(Holds, sock=here)
                there.shutdown(socket.SHUT_WR)
                await turns_until(lambda: told)
                await asyncio.sleep(0.01)
                reference = weakref.ref(transport)
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore', ResourceWarning)
                    del transport, protocol, here
                    gc.collect()
                assert reference() is None
                there.settimeout(2)
                assert there.recv(1) == b''

        told = []
        self.run(main())

    @pytest.mark.parametrize('kind', PAIRS)
    def test_what_resumes_reads_after_the_callbacks_of_this_turn(self, kind):
        class Small(asyncio.BufferedProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def get_buffer(self, sizehint):
                return buffer

            def buffer_updated(self, nbytes):
                seen.append(bytes(buffer[:nbytes]))
                self.transport.pause_reading()
                self.transport.resume_reading()
                loop.call_soon(seen.append, 'callback')

            def eof_received(self):
                seen.append('eof')

        async def main():
            here, there = PAIRS[kind]()
            here.setblocking(False)
            with there:
                there.sendall(b'abcdefg')
                there.shutdown(socket.SHUT_WR)
                await self.loop.create_connection(Small, sock=here)
                await turns_until(lambda: 'eof' in seen)
                await turns(5)

        loop, seen, buffer = self.loop, [], bytearray(4)
        self.run(main())
        assert seen == [b'abcd', 'callback', b'efg', 'callback', 'eof']

    def test_a_buffer_that_cannot_be_written_to(self):
        class ReadOnly(Exact):
            def get_buffer(self, sizehint):
                return bytes(10)

            def connection_lost(self, exc):
                lost.append(type(exc))

        async def main():
            here, there = PAIRS['tcp']()
            here.setblocking(False)
            with there:
                await self.loop.create_connection(ReadOnly, sock=here)
                there.send(b'x')
                await turns_until(lambda: lost)

        lost = []
        self.run(main())
        assert lost == [TypeError]
        assert self.problems[0]['message'] == 'Fatal read error on socket transport'

    def test_others_have_their_turn_between_slow_datagrams(self):
        class Slow(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                seen.append(data)
                if len(seen) == 1:
                    loop.call_soon(seen.append, 'callback')
                time.sleep(0.002)

        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(
                Slow, local_addr=('127.0.0.1', 0))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                for n in range(30):
                    peer.sendto(bytes([n]), transport.get_extra_info('sockname'))
            await turns_until(lambda: len(seen) == 31)
            transport.close()
            await turns(3)

        loop, seen = self.loop, []
        self.run(main())
        assert seen.index('callback') < 10
        seen.remove('callback')
        assert seen == [bytes([n]) for n in range(30)]


class TestReplacedClock(UringCase):

    def test_what_is_behind_urgent_data_comes_though_the_clock_is_the_programs(self):
        """And though nothing else happens, for a while."""
        class Whole(asyncio.Protocol):
            def data_received(self, data):
                came.append(data)
                if b''.join(came) == b'beforebehind':
                    done.set_result(None)

        async def main():
            nonlocal done
            done = self.loop.create_future()
            here, there = PAIRS['tcp']()
            here.setblocking(False)
            with there:
                there.send(b'before')
                there.send(b'!', socket.MSG_OOB)
                there.send(b'behind')
                transport, _ = await self.loop.create_connection(Whole, sock=here)
                await done
                transport.close()
                await turns(3)

        came, done = [], None
        self.loop.time = time.monotonic
        self.run(main())


both_sides(globals(), _TestReadiness)
