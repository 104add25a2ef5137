"""Limits that are reached under load: locked memory, and descriptors."""
import asyncio
import contextlib
import errno
import json
import os
import socket
import textwrap
import threading
from asyncio import constants

import pytest

import uringloop
from tests.support.cases import Case, UringCase, both_sides
from tests.support.load import Load, numbers_of, still_alive
from tests.support.namespaces import Wire, needs_root
from tests.support.process import descriptors, in_thread, limited
from tests.support.programs import script
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, SO_RCVBUFFORCE, SO_SNDBUFFORCE, udp
from tests.support.streams import Echo, Recorder, Streams
from tests.support.turns import turns
from tests.support.work import WORK

# Sends all kinds of datagrams as another user; says how many, and how much was pinned.
LITTLE = WORK + '''
import json
from tests.support.load import Load, still_alive
from tests.support.turns import turns

async def main(fd):
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    transport, protocol = await endpoint(sock=sock)
    load = Load(transport, protocol, ('10.98.1.2', 4433))
    for _ in range(12):
        load.round()
        await asyncio.sleep(0)
    await turns()
    pinned = asyncio.get_running_loop().stats().bytes_pinned
    os.write(int(sys.argv[2]), b'!')               # the far end answers now
    load.others += await still_alive()
    await load.settled()
    assert not load.errors()
    assert load.check() == (load.handed, 0)
    await load.close()
    return load.handed, pinned

limit = int(sys.argv[3])
loop = uringloop.new_event_loop(require_uring=True)       # of no locked memory there is none
become(20_000, limit)
if limit:
    loop.close()
    loop = uringloop.new_event_loop(require_uring=True)
print(json.dumps(loop.run_until_complete(asyncio.wait_for(main(int(sys.argv[1])), 20))))
loop.close()
'''


@needs_root
@pytest.mark.parametrize('kib', [0, 16, 64, 1024])
def test_little_locked_memory(kib):
    """Every datagram of every kind arrives, whatever the kernel may pin meanwhile."""
    with Wire() as wire, contextlib.ExitStack() as stack:
        out = stack.enter_context(wire.socket())
        out.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
        far = stack.enter_context(wire.far.socket(address=wire.peer))
        far.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        told, tell = os.pipe()
        stack.callback(os.close, told)
        stack.callback(os.close, tell)

        def release():
            os.read(told, 1)
            wire.release()

        releasing = threading.Thread(target=release)
        releasing.start()
        try:
            said = script(LITTLE, arguments=(out.fileno(), tell, kib << 10),
                          pass_fds=(out.fileno(), tell))
        finally:
            os.write(tell, b'!')                    # it may not have come so far
            releasing.join()
        handed, pinned = json.loads(said)
        arrived = []
        with contextlib.suppress(BlockingIOError):
            while True:
                arrived.append(far.recv(70_000))
        assert len(numbers_of(arrived)) == handed
        if kib:                      # the kernel does not count what a ring of root's pins
            assert pinned <= kib << 10


@contextlib.contextmanager
def no_descriptor_left():
    """The process has as many as it may have."""
    first_free = os.dup(0)
    os.close(first_free)
    with limited(first_free):
        with pytest.raises(OSError, match='Too many open files'):
            os.dup(0)
        yield


class _TestNoDescriptorLeft(Streams, Case):

    timeout = 20.0

    async def refused(self, making):
        with pytest.raises(OSError, match='Too many open files') as caught:
            await making
        assert caught.value.errno == errno.EMFILE

    def test_what_takes_one_is_refused_and_what_is_there_goes_on(self):
        loop = self.loop

        async def all_refused(address):
            recorder = asyncio.DatagramProtocol
            await self.refused(loop.create_datagram_endpoint(recorder, local_addr=LOCAL))
            await self.refused(loop.create_datagram_endpoint(recorder, remote_addr=LOCAL))
            await self.refused(loop.create_connection(asyncio.Protocol, *address))
            await self.refused(asyncio.open_connection(*address))
            await self.refused(asyncio.create_subprocess_exec('true'))
            await self.refused(asyncio.create_subprocess_exec(
                'cat', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE))

        async def echoed(client, server):
            client.transport.write(bytes(300_000))
            await client.until_length(300_000)
            client.data.clear()
            receiver.transport.sendto(b'x', receiver.transport.get_extra_info('sockname'))
            await receiver.until(lambda p: p.datagrams)
            receiver.datagrams.clear()
            await asyncio.sleep(0.001)

        async def main():
            nonlocal receiver
            _, address = await self.serve(Echo)
            client = await self.connect(address)
            transport, receiver = await endpoint(local_addr=LOCAL)
            await self.all_work(address)
            before = descriptors()
            for _ in range(3):
                with no_descriptor_left():
                    await all_refused(address)
                    await echoed(client, receiver)
                await turns()
                assert descriptors() == before
            await self.all_work(address)
            transport.close()
            await receiver.until(lambda p: p.lost)

        receiver = None
        self.run(main())
        assert not self.problems

    async def all_work(self, address):
        """What was refused is made."""
        transport, protocol = await endpoint(local_addr=LOCAL)
        transport.close()
        await protocol.until(lambda p: p.lost)
        _, writer = await asyncio.open_connection(*address)
        writer.close()
        process = await asyncio.create_subprocess_exec(
            'cat', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        assert await process.communicate(b'said') == (b'said', None)
        await turns(10)


class TestAccepting(Streams, UringCase):
    """(asyncio's own loop has a hundred timers try again, also once the server is closed.)"""

    timeout = 20.0

    def test_connections_wait_until_there_are_some(self, monkeypatch):
        """None is lost: the server is told, and takes them all when it can."""
        async def main():
            _, address = await self.serve(Recorder)
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(socket.socket()) for _ in range(20)]
                with no_descriptor_left():
                    for client in clients:
                        client.setblocking(False)
                        await self.loop.sock_connect(client, address)
                        client.send(b'here')
                    while not self.problems:
                        await asyncio.sleep(0.001)
                    assert not self.opened
                while len(self.opened) < 20:
                    await asyncio.sleep(0.001)
                for protocol in self.opened:
                    await protocol.until_length(4)
                    assert protocol.data == b'here'
            for protocol in self.opened:
                await protocol.until_lost()

        monkeypatch.setattr(constants, 'ACCEPT_RETRY_DELAY', 0.01)
        self.run(main())
        assert len(self.opened) == 20
        for problem in self.problems:
            assert problem['message'] == 'socket.accept() out of system resource'
            assert problem['exception'].errno == errno.EMFILE


class TestDescriptors(UringCase):

    timeout = 20.0

    def test_all_kinds_of_sends_without_any(self):
        """Sending takes none, nor does receiving; and none is left behind."""
        async def main():
            with udp(room=4 << 20) as sock:
                receiver, received = await endpoint(sock=sock.dup())
                transport, protocol = await endpoint(sock=udp())
                load = Load(transport, protocol, sock.getsockname())
                with no_descriptor_left():
                    async with load.going_on(received):
                        await load.more(20)
                        assert await self.loop.sock_sendto(sock, b'x', load.to) == 1
                        load.others += 1
                await load.settled()
                assert load.check() == (load.handed, 0)
                await received.until(lambda p: len(p.datagrams) > load.handed)
                received.datagrams.remove(b'x')
                assert len(numbers_of(received.datagrams)) == load.handed
                await load.close()
                receiver.close()
                await turns()

        self.run(main())

    def test_fewer_than_a_loop_would_like(self):
        """Made under a limit of 64, which then rises: those without a slot send as well."""
        async def main():
            with udp(room=4 << 20) as sock, contextlib.ExitStack() as stack:
                receiver, received = await endpoint(sock=sock.dup())
                for _ in range(70):
                    transport, _ = await endpoint(sock=udp())
                    stack.callback(transport.close)
                transport, protocol = await endpoint(sock=udp())
                load = Load(transport, protocol, sock.getsockname())
                async with load.going_on(received):
                    await load.more(20)
                    load.others += await still_alive()
                await load.settled()
                assert load.check() == (load.handed, 0)
                assert len(numbers_of(received.datagrams)) == load.handed
                await load.close()
                receiver.close()
            await turns()

        self.loop.close()
        with limited(64):
            self.loop = self.new_loop()
        self.run(main())

    def test_no_ring_in_another_thread(self):
        """A loop that moves takes some more: it says so, and goes on where there are some."""
        async def main():
            transport, protocol = await endpoint(local_addr=LOCAL)
            transport.sendto(b'x', transport.get_extra_info('sockname'))
            await protocol.until(lambda p: p.datagrams)
            return transport, protocol

        async def again():
            protocol.datagrams.clear()
            transport.sendto(b'y', transport.get_extra_info('sockname'))
            await protocol.until(lambda p: p.datagrams)
            await still_alive()

        def refused():
            with pytest.raises(OSError, match='open files') as caught:
                self.loop.run_forever()
            assert caught.value.errno == errno.EMFILE

        transport, protocol = self.run(main())
        for _ in range(3):
            with no_descriptor_left():
                in_thread(refused)
        before = descriptors()
        self.run(again())
        assert descriptors() == before
        in_thread(lambda: self.run(again()))
        assert not protocol.lost
        transport.close()
        assert not self.problems

    def test_no_loop(self):
        """A new one is refused, and nothing is left of it."""
        before = descriptors()
        for _ in range(3):
            with no_descriptor_left():
                with pytest.raises(OSError, match='open files'):
                    uringloop.new_event_loop(require_uring=True)
            assert descriptors() == before
        loop = self.new_loop()
        assert loop.run_until_complete(still_alive()) == 4
        loop.close()


def test_a_child_has_none_left():
    """Forked while none is left: parent and child go on, and the child's loop is its own."""
    assert script(WORK + textwrap.dedent('''
        import resource
        loop = uringloop.new_event_loop(require_uring=True)
        other = uringloop.new_event_loop(require_uring=True)
        work_on(loop)
        free = os.dup(0)
        os.close(free)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        pid = os.fork()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if pid == 0:
            work_on(other)
            mine = uringloop.new_event_loop(require_uring=True)
            work_on(mine)
            mine.close()
            other.close()
            os._exit(7)
        work_on(loop)
        work_on(other)
        loop.close()
        other.close()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        '''), '-W', 'error') == '7\n'


both_sides(globals(), _TestNoDescriptorLeft)
