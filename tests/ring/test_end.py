"""The end of a ring: what the kernel still holds then, and an interpreter that exits."""
import asyncio
import gc
import socket
import threading
import time

import pytest

from tests.support.cases import UringCase
from tests.support.features import needs_feature
from tests.support.namespaces import Wire, needs_root
from tests.support.process import in_thread, limited
from tests.support.programs import outcome
from tests.support.protocols import endpoint
from tests.support.turns import settle, turns_until
from uringloop.ring import orphans
from uringloop.ring import ring as ring_module
from uringloop.ring.operations import OperationTable

UDP_CORK = 1


class TestEnd(UringCase):

    def test_a_ring_without_a_marker_closes(self):
        """A ring whose death will not be seen."""
        ring = ring_module.Ring(OperationTable(), 8, 16, 1 << 20)
        assert not ring.files.has_marker
        assert ring.close(-1, 0) == []

    async def hold_back(self):
        """A zero-copy send whose memory the kernel keeps, by the cork of an open socket."""
        transport, _ = await endpoint(remote_addr=('127.0.0.1', 9))
        transport.get_extra_info('socket').setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
        future = transport.sendto_zerocopy(bytes(500), segment_size=100)
        await asyncio.sleep(0)
        other = transport.get_extra_info('socket').dup()
        transport.abort()
        await settle()
        return future, other

    @needs_feature('send_zc')
    def test_closing_waits_for_a_notification_without_spinning(self):
        """The completion of a request to cancel ends a wait: not each wait may have one."""
        loop = self.new_loop()
        future, other = loop.run_until_complete(self.hold_back())
        with other:
            assert not future.done()
            before = loop.stats().submissions
            loop.close()
            assert future.cancelled()
        assert loop.stats().submissions - before < 1000
        assert orphans.hung_up(orphans.orphaned_rings[0][0], 5)
        orphans.release_torn_down()

    def test_memory_without_a_marker_is_kept(self):
        orphans.keep_until_torn_down(-1, OperationTable(), 0)
        try:
            orphans.release_torn_down()
            assert self.loop.stats().rings_orphaned == 1
        finally:
            orphans.orphaned_rings.clear()

    @needs_feature('send_zc')
    def test_runs_again_after_an_interrupt_while_the_loop_moves(self, monkeypatch):
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
        held, other = self.run(self.hold_back())
        monkeypatch.setattr(ring_module, 'hung_up', interrupted)
        in_thread(move)
        transport.abort()
        other.close()
        for marker_peer, *_ in orphans.orphaned_rings:
            assert orphans.hung_up(marker_peer, 10)
        assert self.loop.stats().rings_orphaned == 1
        orphans.release_torn_down()
        in_thread(lambda: self.run(settle()))
        assert held.done()

    def test_transports_hear_of_a_ring_though_its_end_is_interrupted(self, monkeypatch):
        def interrupted(*_):
            monkeypatch.undo()
            raise KeyboardInterrupt

        def move():
            with pytest.raises(KeyboardInterrupt):
                self.loop.run_until_complete(asyncio.sleep(0))
            self.run(self.talk(transport, protocol))
            self.run(receive())

        async def receive():
            far.send(b'x')
            assert await receiving[0] == b'x'

        async def begin_to_receive():
            receiving.append(asyncio.ensure_future(self.loop.sock_recv(near, 10)))
            await asyncio.sleep(0)

        receiving = []
        near, far = socket.socketpair()
        near.setblocking(False)
        transport, protocol = self.run(endpoint(local_addr=('127.0.0.1', 0)))
        self.run(self.talk(transport, protocol))
        self.run(begin_to_receive())
        monkeypatch.setattr(ring_module.open_rings, 'discard', interrupted, raising=False)
        in_thread(move)
        transport.abort()
        in_thread(lambda: self.run(settle()))
        near.close()
        far.close()

    async def talk(self, transport, protocol):
        protocol.datagrams.clear()
        transport.sendto(b'x', transport.get_extra_info('sockname'))
        await protocol.until(lambda p: p.datagrams)
        woken = self.loop.create_future()
        in_thread(lambda: self.loop.call_soon_threadsafe(woken.set_result, None))
        await woken

    @needs_feature('send_zc')
    @needs_root
    def test_closing_refuses_what_a_finalizer_wants(self):
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

    @needs_feature('send_zc')
    @needs_root
    @pytest.mark.parametrize('limit', [128, 1024])
    def test_held_memory_is_kept_until_the_kernel_lets_go(self, limit):
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
            orphans.release_torn_down()
            gc.collect()
            assert gone
            assert loop.stats().rings_orphaned == 0


@needs_root
def test_many_loops_follow_one_another_with_little_locked_memory():
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
def test_the_interpreter_exits_with_operations_in_flight(source, code):
    assert outcome(EXIT + '    ' + source.strip()) == (code, '')
