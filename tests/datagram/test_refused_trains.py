"""Trains that a path, a device, a socket or a system call refuses: each datagram by itself."""
import asyncio
import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
import textwrap

import pytest

from tests.support.cases import UringCase
from tests.support.endpoints import Sending, numbered, numbers
from tests.support.features import needs_feature
from tests.support.namespaces import Hole, Wire, needs_root
from tests.support.programs import script
from tests.support.protocols import endpoint
from tests.support.seccomp import FORBID
from tests.support.sockets import LOCAL
from tests.support.turns import turns_until
from tests.support.wires import roomy_peer
from tests.support.work import WORK

SO_NO_CHECK = 11                              # asm-generic/socket.h
UDP_CORK = 1                                  # linux/udp.h
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2       # linux/in.h
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17   # linux/sockios.h, linux/ethtool.h


@pytest.fixture(scope='module')
def narrow():
    """A wire at the usual MTU."""
    with Wire() as wire:
        wire.ip('link', 'set', 'wire', 'mtu', 1500)
        wire.release()
        yield wire


def without_checksums(namespace, device):
    """The device computes no checksums any more, as one that cannot."""
    value = ctypes.create_string_buffer(struct.pack('II', ETHTOOL_STXCSUM, 0))
    with namespace.socket() as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, struct.pack(
            '16sP16x', device.encode(), ctypes.addressof(value)))


@needs_root
class TestPaths(UringCase):

    @needs_feature('send_zc')
    def test_a_segment_beyond_the_mtu(self, narrow):
        """It is fragmented, as a single datagram is; and the path is remembered."""
        async def main():
            receiver, received = await roomy_peer(narrow)
            transport, protocol = await endpoint(sock=narrow.socket())
            sent = []
            for turn in range(3):
                data = numbered(100, 2000)
                transport.sendto(b'before %d' % turn, narrow.peer)
                future = transport.sendto_zerocopy(
                    b''.join(data), narrow.peer, segment_size=2000)
                transport.sendto(b'behind %d' % turn, narrow.peer)
                sent += [b'before %d' % turn, *data, b'behind %d' % turn]
                assert await future == (200_000, True)
            await received.until(lambda p: len(p.datagrams) == len(sent))
            assert received.datagrams == sent
            assert not protocol.errors
            stats = self.loop.stats()
            assert stats.datagrams_sent == len(sent)
            assert stats.zerocopy_fell_back == stats.zerocopy_sent > 0
            assert stats.trains_sent == 0
            # What fits the path goes as a train all the same.
            before = self.loop.stats().trains_sent
            await transport.sendto_zerocopy(bytes(120_000), narrow.peer, segment_size=1200)
            assert self.loop.stats().trains_sent > before
            transport.close()
            receiver.close()

        self.run(main())

    @needs_feature('send_zc')
    def test_another_path_takes_them_all_the_same(self):
        """One narrow path does not cost the others their trains."""
        async def main():
            transport, _ = await endpoint(sock=hole.socket())

            async def trains_to(peer):
                before = self.loop.stats().trains_sent
                assert (await transport.sendto_zerocopy(
                    bytes(50_000), peer, segment_size=1200)).nbytes == 50_000
                return self.loop.stats().trains_sent - before

            assert await trains_to(hole.peer) == 1
            assert await trains_to(hole.other_peer) == 0
            assert await trains_to(hole.peer) == 1
            await transport.sendto_many_zerocopy(
                [memoryview(bytes(2400))[n:n + 1200] for n in (0, 1200)], hole.peer)
            transport.close()

        with Hole() as hole:
            hole.ip('route', 'add', f'{hole.other_peer[0]}/32', 'dev', 'hole', 'mtu', '1000')
            self.run(main())

    @pytest.mark.parametrize('call', ['transport', 'many', 'sock', 'sock train'])
    def test_the_memory_is_let_go_of(self, narrow, call):
        """The kernel notifies of what it has refused, too, and later."""
        async def main():
            sock = narrow.socket()
            data = bytearray(60_000)
            with narrow.socket() as other:
                transport, _ = await endpoint(sock=other)
                for _ in range(3):
                    if call == 'transport':
                        await transport.sendto_zerocopy(data, narrow.peer, segment_size=2000)
                    elif call == 'many':
                        view = memoryview(data)
                        await transport.sendto_many_zerocopy(
                            [view[n:n + 2000] for n in range(0, 60_000, 2000)], narrow.peer)
                        del view
                    elif call == 'sock':
                        await self.loop.sock_sendto_zerocopy(sock, data, narrow.peer)
                    else:
                        await self.loop.sock_sendto_zerocopy(
                            sock, data, narrow.peer, segment_size=2000)
                    data.append(data.pop())
                transport.close()
                await turns_until(transport.is_closing)
            sock.close()

        self.run(main())

    def test_a_segment_that_must_not_be_fragmented(self, narrow):
        async def main():
            receiver, received = await roomy_peer(narrow)
            transport, protocol = await endpoint(sock=narrow.socket())
            transport.get_extra_info('socket').setsockopt(
                socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            transport.sendto(b'before', narrow.peer)
            future = transport.sendto_zerocopy(
                bytearray(20_000), narrow.peer, segment_size=2000)
            transport.sendto(b'behind', narrow.peer)
            with pytest.raises(OSError, match='datagram of 2000 bytes') as caught:
                await future
            assert caught.value.errno == errno.EMSGSIZE
            await received.until(lambda p: len(p.datagrams) == 2)
            assert received.datagrams == [b'before', b'behind']
            assert not protocol.errors
            stats = self.loop.stats()
            assert (stats.datagrams_sent, stats.datagrams_dropped) == (2, 10)
            transport.close()
            receiver.close()

        self.run(main())

    def test_one_longer_than_a_datagram_may_be(self, narrow):
        async def main():
            transport, _ = await endpoint(sock=narrow.socket())
            # Of UDP over IPv4 the longest has 65,507 bytes.
            assert (await transport.sendto_zerocopy(
                bytes(65507 * 2), narrow.peer, segment_size=65507)).nbytes == 131_014
            transport.close()

        self.run(main())

    @needs_feature('report_usage', where='send_zc')
    def test_a_device_that_cannot_help(self):
        """Without checksum offload: some kernels refuse a train, others cut it up by hand."""
        async def main():
            receiver, received = await roomy_peer(wire)
            transport, protocol = await endpoint(sock=wire.socket())
            data = numbered(200, 1200)
            for _ in range(3):
                assert (await transport.sendto_zerocopy(
                    b''.join(data), wire.peer, segment_size=1200)) == (240_000, True)
                transport.sendto_many(data, wire.peer)
            await received.until(lambda p: len(p.datagrams) == 1200)
            assert received.datagrams == data * 6
            assert not protocol.errors
            transport.close()
            receiver.close()

        with Wire() as wire:
            wire.ip('link', 'set', 'wire', 'mtu', 1500)
            without_checksums(wire, 'wire')
            wire.release()
            self.run(main())

    @needs_feature('send_zc', 'report_usage')
    def test_the_route_goes_in_the_middle(self):
        async def main():
            transport, protocol = await endpoint(sock=hole.socket())
            data = b''.join(numbered(300, 1000))
            assert await transport.sendto_zerocopy(
                data, hole.peer, segment_size=1000) == (300_000, False)
            hole.ip('route', 'add', 'unreachable', hole.peer[0])
            with pytest.raises(OSError) as caught:
                await transport.sendto_zerocopy(data, hole.peer, segment_size=1000)
            assert caught.value.errno == errno.EHOSTUNREACH
            futures = [transport.sendto_zerocopy(data, to, segment_size=1000)
                       for to in (hole.other_peer, hole.peer, hole.other_peer)]
            reports = await asyncio.gather(*futures, return_exceptions=True)
            assert reports[::2] == [(300_000, False)] * 2
            assert reports[1].errno == errno.EHOSTUNREACH
            hole.ip('route', 'del', 'unreachable', hole.peer[0])
            assert await transport.sendto_zerocopy(
                data, hole.peer, segment_size=1000) == (300_000, False)
            assert not protocol.errors
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            transport.close()

        with Hole(mtu=1500) as hole:
            self.run(main())


class TestOptions(Sending, UringCase):

    @needs_feature('report_usage', where='send_zc')
    @pytest.mark.parametrize(('level', 'option'), [
        (socket.SOL_SOCKET, SO_NO_CHECK), (socket.IPPROTO_UDP, 103)])
    def test_with_which_a_socket_takes_no_train(self, level, option):
        """No checksums: refused. A segment size of the program's own: the train's counts."""
        async def main():
            transport, protocol = await endpoint(local_addr=LOCAL)
            transport.get_extra_info('socket').setsockopt(level, option, 1 if option < 100 else 700)
            data = numbered(150, 600)
            for _ in range(2):
                assert await transport.sendto_zerocopy(
                    b''.join(data), self.to, segment_size=600) == (90_000, True)
                assert self.arrived() == data
                transport.sendto_many(data, self.to)
                assert self.arrived() == data
            assert not protocol.errors
            transport.close()

        self.run(main())

    def test_corked(self):
        """What the program corks is one datagram, whatever it is made of."""
        async def main():
            transport, _ = await endpoint(remote_addr=self.to)
            sock = transport.get_extra_info('socket')
            sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
            future = transport.sendto_zerocopy(b'a' * 500, segment_size=100)
            transport.sendto(b'b' * 100)
            assert self.arrived() == []
            sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)
            assert (await future).nbytes == 500
            assert b''.join(self.arrived()) == b'a' * 500 + b'b' * 100
            transport.close()

        self.run(main())


# Sends trains and batches while the plain way is refused from then on, or not.
REFUSED = FORBID + '''
import asyncio, contextlib, errno, os, socket, sys
import uringloop
from tests.support.endpoints import numbered
from tests.support.protocols import Recorder

SENDMSG = 46                            # of x86-64
error = int(sys.argv[1])

peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
peer.bind(('127.0.0.1', 0))
peer.setblocking(False)
to = peer.getsockname()

def arrived():
    got = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(peer.recv(70_000))
    return got

async def main():
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        Recorder, local_addr=('127.0.0.1', 0))
    # From now on it is known that this path copies: trains leave by sendmsg.
    assert (await transport.sendto_zerocopy(bytes(600), to, segment_size=100)).copied
    arrived()
    forbid_io_uring(error, SENDMSG)
    data = numbered(20, 900)
'''

# Of these the segmented send may be at fault: each datagram goes by itself, and arrives.
REFUSALS = [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOBUFS,
            errno.ENOMEM]
# These are the first datagram's own.
OWN = [errno.EPERM, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETDOWN]


def refused(error, source):
    program = REFUSED.replace('int(sys.argv[1])', str(error)) + textwrap.indent(
        textwrap.dedent(source), '    ') + '''
    transport.close()

uringloop.run(asyncio.wait_for(main(), 10))
peer.close()
'''
    return script(program)


@needs_feature('report_usage', where='send_zc')
@pytest.mark.skipif(os.uname().machine != 'x86_64', reason='knows the numbers of x86-64')
class TestRefusedByTheCall:
    """A real seccomp filter answers sendmsg, by which copied trains leave, with an errno."""

    @pytest.mark.parametrize('error', REFUSALS, ids=errno.errorcode.get)
    @pytest.mark.parametrize('way', ['train', 'slices', 'sendto_many'])
    def test_each_by_itself(self, error, way):
        assert refused(error, '''
            for turn in range(3):
                transport.sendto(b'before', to)
                if WAY == 'train':
                    report = transport.sendto_zerocopy(b''.join(data), to, segment_size=900)
                elif WAY == 'sendto_many':
                    report = None
                    transport.sendto_many(data, to)
                else:
                    report = None
                    view = memoryview(b''.join(data))
                    for n in range(20):
                        transport.sendto(view[900 * n:900 * n + 900], to)
                transport.sendto(b'behind', to)
                if report:
                    assert await report == (18_000, True)
                await asyncio.sleep(0)
                assert arrived() == [b'before', *data, b'behind']
            print(protocol.errors, loop.stats().datagrams_dropped)
            '''.replace('WAY', repr(way))) == '[] 0\n'

    @pytest.mark.parametrize('error', OWN, ids=errno.errorcode.get)
    def test_the_first_is_told_of_its_own(self, error):
        """Of a train with a future that hears it; and nothing of the train leaves."""
        assert refused(error, '''
            future = transport.sendto_zerocopy(b''.join(data), to, segment_size=900)
            try:
                await future
            except OSError as exc:
                print(exc.errno == error)
            print(arrived(), protocol.errors, loop.stats().datagrams_dropped)
            ''') == 'True\n[] [] 20\n'

    @pytest.mark.parametrize('error', OWN, ids=errno.errorcode.get)
    def test_of_a_batch_only_the_first_is_lost(self, error):
        """The error is taken for one that waited in the socket for the next datagram.

        The others go on: two by sendmsg again, the last by itself.
        """
        assert refused(error, '''
            transport.sendto_many(data[:3], to)
            print([exc.errno == error for exc in protocol.errors])
            print(len(arrived()), loop.stats().datagrams_dropped)
            ''') == '[True, True]\n1 2\n'


@needs_root
class TestNoMemory:

    @needs_feature('send_zc')
    def test_beyond_what_may_be_locked(self):
        """As somebody who may lock 1 MiB: all is delivered, by copy, and counted."""
        with Wire() as wire:
            with wire.entered():
                out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            far = wire.far.socket(address=wire.peer)
            with out, far:
                far.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
                out.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)
                os.set_inheritable(out.fileno(), True)
                reading, writing = os.pipe()
                os.set_inheritable(writing, True)
                pid = os.fork()
                if pid == 0:
                    os.execv(sys.executable, [
                        sys.executable, '-c', WORK + UNPRIVILEGED, str(out.fileno()), str(writing)])
                os.close(writing)
                with open(reading) as told:
                    assert told.readline() == 'sent\n'
                    wire.release()
                    rest = told.read()
                assert os.waitpid(pid, 0)[1] == 0
                assert int(rest) > 0         # fell back
                got = [far.recv(2000) for _ in range(1500)]
                assert numbers(got) == list(range(100)) * 15


UNPRIVILEGED = '''
from tests.support.endpoints import numbered

async def main():
    loop = asyncio.get_running_loop()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setblocking(False)
    transport, _ = await endpoint(sock=sock)
    data = [bytearray(b''.join(numbered(100, 1200))) for _ in range(15)]
    futures = [transport.sendto_zerocopy(each, ('10.98.1.2', 4433), segment_size=1200)
               for each in data]
    assert transport.get_write_buffer_size() == 0
    os.write(int(sys.argv[2]), b'sent\\n')
    reports = await asyncio.gather(*futures)
    assert {report.nbytes for report in reports} == {120_000}
    stats = loop.stats()
    assert stats.datagrams_sent == 1500
    assert stats.bytes_pinned == 0
    os.write(int(sys.argv[2]), b'%d' % stats.zerocopy_fell_back)
    transport.close()

become(20_000, 1 << 20)
loop = uringloop.new_event_loop(require_uring=True)
loop.run_until_complete(asyncio.wait_for(main(), 10))
loop.close()
'''
