"""Loops, transports and calls that are dropped or left pending: nothing of them stays."""
import asyncio
import gc
import os
import socket
import weakref

import pytest

from tests.support.cases import UringCase, assert_no_leaks
from tests.support.process import descriptors, in_thread
from tests.support.protocols import endpoint
from tests.support.sockets import udp
from tests.support.turns import settle
from uringloop.ring import orphans


class TestGarbage(UringCase):

    def test_loops_leave_no_descriptor(self):
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

    def test_a_loop_never_run_leaves_no_descriptor(self):
        before = descriptors()
        loop = self.new_loop()
        loop.close()
        assert_no_leaks(loop)
        loop = self.new_loop()
        with pytest.warns(ResourceWarning, match='unclosed event loop'):
            del loop
            gc.collect()
        assert descriptors() == before

    @pytest.mark.filterwarnings('error::ResourceWarning')
    @pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
    @pytest.mark.parametrize('runs', [False, True])
    def test_a_loop_whose_warning_is_an_error_leaves_no_descriptor(self, runs):
        before = descriptors()
        for _ in range(10):
            loop = self.new_loop()
            if runs:
                loop.run_until_complete(asyncio.sleep(0))
            del loop
            gc.collect()
        assert descriptors() == before

    def test_a_loop_that_is_run_after_its_end_leaves_no_descriptor(self):
        before = descriptors()
        loop = self.new_loop()
        loop.close()
        with pytest.raises(AttributeError):        # as asyncio's
            loop._run_once()
        del loop
        assert descriptors() == before

    def test_a_loop_that_another_thread_collects(self):
        """Whatever of it the collector finalizes first: how old each is decides."""
        async def main():
            await endpoint(local_addr=('127.0.0.1', 0))

        def run():
            loop = self.new_loop()
            loop.run_until_complete(main())

        make_pair = socket.socketpair

        def pair(*arguments):
            gc.collect(0)            # as any allocation may: what there is of the loop is older now
            return make_pair(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, 'socketpair', pair)
            in_thread(run)
        with pytest.warns(ResourceWarning, match='unclosed'):
            gc.collect()
        orphans.release_torn_down()
        for marker_peer, *_ in orphans.orphaned_rings:
            assert orphans.hung_up(marker_peer, 10)

    @pytest.mark.parametrize('armed', [False, True])
    def test_a_loop_dropped_without_close_goes(self, armed):
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
        orphans.release_torn_down()
        assert descriptors() == before

    def test_a_transport_dropped_without_close_goes_on_until_the_loop_ends(self):
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

    @pytest.mark.parametrize('name', [
        'sock_recv', 'sock_recvfrom', 'sock_recv_into', 'sock_recvfrom_into', 'sock_accept',
        'sock_sendto', 'sock_sendto_zerocopy', 'sock_sendall'])
    def test_a_call_pending_is_let_go_of_with_the_loop(self, name):
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

    def test_futures_are_done_when_the_loop_is_closed(self):
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
