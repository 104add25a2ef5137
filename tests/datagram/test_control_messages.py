"""Control messages as ``socket`` has them: ``datagram_msg_received`` and ``sendmsg``."""
import array
import errno
import os
import random
import socket
import struct

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.namespaces import needs_root
from tests.support.process import descriptors
from tests.support.protocols import Collector
from tests.support.sockets import needs_ipv6, udp
from tests.support.turns import turns_until
from uringloop.copying.loop import CopyingLoop

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104        # linux/udp.h
SO_TIMESTAMPNS = 35                                 # asm-generic/socket.h
IP, SOL = socket.IPPROTO_IP, socket.SOL_SOCKET


class Messages(Collector, uringloop.DatagramProtocol):
    """Collects what it is called with."""

    def datagram_msg_received(self, data, ancdata, flags, addr):
        self.take((data, ancdata, flags, addr))

    def datagrams_received_with_info(self, batch):
        raise AssertionError


class WithMessages(UringCase):

    async def open(self, local=('127.0.0.1', 0), **options):
        how = {} if 'sock' in options else {'local_addr': local}
        transport, protocol = await self.loop.create_datagram_endpoint(
            Messages, **how, **options)
        return transport, protocol, transport.get_extra_info('sockname')


class TestReceived(WithMessages):

    @pytest.mark.parametrize('size', [0, 1, 1000, 9000, 60_000])
    def test_as_recvmsg_has_it(self, size):
        """The same datagrams, with the same options, to a transport and to a plain socket."""
        async def main():
            transport, protocol, name = await self.open()
            with udp() as plain, udp() as peer:
                for sock in transport.get_extra_info('socket'), plain:
                    sock.setsockopt(IP, socket.IP_RECVTOS, 1)
                    sock.setsockopt(IP, IP_PKTINFO, 1)
                    sock.setsockopt(IP, IP_RECVTTL, 1)
                for tos in 0, 2, 0xff:
                    peer.setsockopt(IP, socket.IP_TOS, tos)
                    data = random.randbytes(size)
                    peer.sendto(data, name)
                    peer.sendto(data, plain.getsockname())
                    await protocol.wait(1)
                    assert protocol.got == [plain.recvmsg(70_000, 1000)]
                    assert type(protocol.got[0][1]) is list
                    protocol.got.clear()
            transport.close()

        self.run(main())

    def test_without_any_option(self):
        async def main():
            transport, protocol, name = await self.open()
            with udp() as peer:
                peer.sendto(b'bare', name)
                await protocol.wait(1)
                assert protocol.got == [(b'bare', [], 0, peer.getsockname())]
            transport.close()

        self.run(main())

    @needs_ipv6
    def test_ipv6(self):
        async def main():
            transport, protocol, name = await self.open(('::1', 0))
            transport.get_extra_info('socket').setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
                peer.sendmsg([b'six'], [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS,
                                         struct.pack('i', 1))], 0, name)
                await protocol.wait(1)
                assert protocol.got == [
                    (b'six', [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack('i', 1))],
                     0, ('::1', peer.getsockname()[1], 0, 0))]
            transport.close()

        self.run(main())

    def test_trains_are_cut(self):
        """The size of their datagrams is the loop's matter; each has a list of its own."""
        async def main():
            transport, protocol, name = await self.open(ecn=True)
            expected = []
            with udp() as peer:
                for size in 1, 100, 1200, 9000:
                    data = random.randbytes(min(size * 20 + size // 2, 60_000))
                    peer.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, struct.pack('H', size)),
                                          (IP, socket.IP_TOS, struct.pack('i', 3))], 0, name)
                    expected += [data[n:n + size] for n in range(0, len(data), size)]
                await protocol.wait(len(expected))
            assert [data for data, _, _, _ in protocol.got] == expected
            assert len({id(ancdata) for _, ancdata, _, _ in protocol.got}) == len(expected)
            assert all(ancdata == [(IP, socket.IP_TOS, b'\3')]
                       for _, ancdata, _, _ in protocol.got)
            transport.close()

        self.run(main())

    def test_trains_of_a_programs_own(self):
        """A socket that has the option by the program is read as by ``recvmsg``."""
        async def main():
            sock = udp()
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)
            transport, protocol, name = await self.open(sock=sock)
            with udp() as peer:
                data = random.randbytes(5000)
                peer.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, struct.pack('H', 1000))], 0, name)
                await protocol.wait(1)
            [(got, ancdata, _, _)] = protocol.got
            assert got == data
            assert ancdata == [(SOL_UDP, UDP_GRO, struct.pack('i', 1000))]
            transport.close()

        self.run(main())

    def test_descriptors_travel(self, tmp_path):
        """More than a few, and none of them to children."""
        async def main():
            near, far = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
            near.bind(str(tmp_path / 'near'))
            far.bind(str(tmp_path / 'far'))
            for sock in near, far:
                sock.setblocking(False)
            to, protocol, _ = await self.open(sock=near)
            sender, _, _ = await self.open(sock=far)
            read_end, write_end = os.pipe()
            for count in 1, 200:
                fds = array.array('i', [write_end] * count)
                sender.sendmsg([b'here'], [(SOL, socket.SCM_RIGHTS, fds)], 0,
                               str(tmp_path / 'near'))
                await protocol.wait(1)
                [(data, [(level, kind, payload)], flags, addr)] = protocol.got
                protocol.got.clear()
                assert (data, level, kind, flags, addr) == (
                    b'here', SOL, socket.SCM_RIGHTS, 0, str(tmp_path / 'far'))
                passed = array.array('i', payload)
                assert len(passed) == count
                for fd in passed:
                    assert not os.get_inheritable(fd)
                    os.write(fd, b'.')
                    os.close(fd)
                assert os.read(read_end, 1000) == b'.' * count
            os.close(read_end)
            os.close(write_end)
            to.close()
            sender.close()

        self.run(main())

    @only_uring                # the fallback has room for more
    @needs_root
    @needs_ipv6
    def test_cut_off(self):
        """Options of IPv6 that there is no room for: the flags say so, and the data is whole."""
        async def main():
            transport, protocol, name = await self.open(('::1', 0))
            transport.get_extra_info('socket').setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_RECVDSTOPTS, 1)
            # As tests/datagram/test_offload.py has them.
            options = bytes([59, 1024 // 8 - 1]) + 4 * (b'\x1e\xfc' + bytes(252)) + bytes(6)
            data = random.randbytes(20_001)
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
                peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, options)
                peer.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, struct.pack('H', 1000))], 0, name)
                peer.sendto(b'alone', name)
                await protocol.wait(22)
            assert [got for got, _, _, _ in protocol.got] == [
                *(data[n:n + 1000] for n in range(0, len(data), 1000)), b'alone']
            assert all(flags & socket.MSG_CTRUNC for _, _, flags, _ in protocol.got)
            transport.close()

        self.run(main())


IP_PKTINFO, IP_RECVTTL = 8, 12          # linux/in.h

# What a socket refuses before it asks the kernel.
BAD = {
    'no list': (3, ()),
    'text': (['text'], ()),
    'a number': ([b'', 1], ()),
    'no ancdata': ([b''], 3),
    'an item that is none': ([b''], [b'abc']),
    'a number in its place': ([b''], [3]),
    'a pair': ([b''], [(1, 2)]),
    'four': ([b''], [(1, 2, b'', 4)]),
    'a level that is text': ([b''], [('SOL_IP', 1, b'')]),
    'a level that is too large': ([b''], [(1 << 40, 1, b'')]),
    'a type that is a float': ([b''], [(1, 1.5, b'')]),
    'data that is text': ([b''], [(1, 2, 'text')]),
    'data that is a number': ([b''], [(1, 2, 4)]),
    'data with gaps': ([b''], [(1, 2, memoryview(b'abcd')[::2])]),
    'a buffer with gaps': ([memoryview(b'abcd')[::2]], ()),
}
# What the kernel refuses: level, type, data.
REFUSED = {
    'too short': (IP, socket.IP_TOS, b'abc'),
    'too large a class': (IP, socket.IP_TOS, struct.pack('i', 256)),
    'of no known type': (IP, 999, b''),
    'a size of nothing': (SOL_UDP, UDP_SEGMENT, b'a'),
    'too long': (IP, socket.IP_TOS, bytes(1 << 20)),
    'rights': (SOL, socket.SCM_RIGHTS, struct.pack('i', 999_999)),
}


class TestSent(WithMessages):

    @pytest.mark.parametrize('what', BAD)
    def test_what_is_none(self, what):
        """The socket's exceptions, at once; and nothing has left."""
        async def main():
            buffers, ancdata = BAD[what]
            transport, protocol, name = await self.open()
            with udp() as plain:
                with pytest.raises(Exception) as expected:
                    plain.sendmsg(buffers, ancdata, 0, name)
                with pytest.raises(expected.type):
                    transport.sendmsg(buffers, ancdata, 0, name)
            assert protocol.errors == protocol.got == []
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('what', REFUSED)
    def test_what_the_kernel_refuses(self, what):
        async def main():
            transport, protocol, name = await self.open()
            with udp() as plain:
                plain.connect(name)
                try:
                    plain.sendmsg([b'there'], [REFUSED[what]])
                    expected = None
                except OSError as exc:
                    expected = exc.errno
            transport.sendmsg([b'there'], [REFUSED[what]], 0, name)
            assert [exc.errno for exc in protocol.errors] == [expected] * (expected is not None)
            if expected is None:
                await protocol.wait(2)
            transport.close()

        self.run(main())

    def test_zerocopy_is_no_flag_of_it(self):
        """Its memory would be free before the kernel has read it."""
        async def main():
            transport, _, name = await self.open()
            with pytest.raises(ValueError, match='MSG_ZEROCOPY is not for sendmsg'):
                transport.sendmsg([b'data'], (), 0x4000000, name)
            transport.close()

        self.run(main())

    def test_descriptors_that_wait_are_those_of_the_call(self, tmp_path):
        """The program closes its own at once, and has another file by that number."""
        self.needs_pausing()

        async def main():
            near, far = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
            near.bind(str(tmp_path / 'near'))
            for sock in near, far:
                sock.setblocking(False)
            to, protocol, _ = await self.open(sock=near)
            to.pause_reading()
            sender, _, _ = await self.open(sock=far)
            full = 0
            while not sender.get_write_buffer_size():
                sender.sendto(b'full', str(tmp_path / 'near'))
                full += 1
            before = descriptors()
            read_end, write_end = os.pipe()
            sender.sendmsg([b'here'], [(SOL, socket.SCM_RIGHTS, array.array('i', [write_end]))],
                           0, str(tmp_path / 'near'))
            os.close(write_end)
            with open(tmp_path / 'secret', 'w') as secret:
                assert secret.fileno() == write_end
                to.resume_reading()
                await protocol.wait(full + 1)
                _, [(_, _, payload)], _, _ = protocol.got[-1]
                passed, = array.array('i', payload)
                os.write(passed, b'mine')
                assert os.read(read_end, 10) == b'mine'
                os.close(passed)
            os.close(read_end)
            assert descriptors() == before        # no copy is left
            to.close()
            sender.close()

        self.run(main())

    def test_a_descriptor_that_is_none_and_would_wait(self, tmp_path):
        async def main():
            near = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            near.bind(str(tmp_path / 'near'))
            far = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            far.setblocking(False)
            sender, protocol, _ = await self.open(sock=far)
            while not sender.get_write_buffer_size():
                sender.sendto(b'full', str(tmp_path / 'near'))
            sender.sendmsg([b''], [(SOL, socket.SCM_RIGHTS, array.array('i', [999_999]))], 0,
                           str(tmp_path / 'near'))
            assert [exc.errno for exc in protocol.errors] == [errno.EBADF]
            sender.abort()
            near.close()

        self.run(main())

    def test_a_message_of_another_level_is_no_matter(self):
        async def main():
            transport, protocol, name = await self.open()
            transport.sendmsg([b'here'], [(12345, 1, b'what?')], 0, name)
            await protocol.wait(1)
            assert protocol.got[0][0] == b'here'
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', ['bulk', 'many', 'train', 'amid'])
    def test_what_follows_a_part_of_a_datagram_stays_apart(self, way):
        """The first is the rest of it; the kernel would take a segmented send as one datagram."""
        async def main():
            transport, protocol, name = await self.open()
            expected = [b'part' + b'x' * 100] + [b'x' * 100] * 19
            if way == 'amid':
                expected[:0] = [b'x' * 100] * 20
                for _ in range(20):
                    transport.sendto(b'x' * 100, name)
            transport.sendmsg([b'part'], (), socket.MSG_MORE, name)
            if way == 'many':
                transport.sendto_many([b'x' * 100] * 20, name)
            elif way == 'train':
                await transport.sendto_zerocopy(b'x' * 2000, name, segment_size=100)
            else:
                for _ in range(20):
                    transport.sendto(b'x' * 100, name)
            await protocol.wait(len(expected))
            assert [data for data, _, _, _ in protocol.got] == expected
            transport.close()

        self.run(main())

    def test_what_would_be_too_long_with_its_beginning_is_told(self):
        async def main():
            transport, protocol, name = await self.open()
            transport.sendmsg([bytes(30_000)], (), socket.MSG_MORE, name)
            transport.sendto(bytes(40_000), name)
            await turns_until(lambda: protocol.errors)
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE]
            transport.sendto(b'and on', name)
            await turns_until(lambda: protocol.got)
            assert [data for data, _, _, _ in protocol.got] == [b'and on']
            transport.close()

        self.run(main())

    def test_flags(self):
        async def main():
            transport, protocol, name = await self.open()
            transport.sendmsg([b'one, '], (), socket.MSG_MORE, name)
            transport.sendmsg([b'two'], (), 0, name)
            await protocol.wait(1)
            assert [data for data, _, _, _ in protocol.got] == [b'one, two']
            transport.sendmsg([b'no'], (), socket.MSG_OOB, name)
            assert [exc.errno for exc in protocol.errors] == [errno.EOPNOTSUPP]
            with pytest.raises(TypeError):
                transport.sendmsg([b'no'], (), 'flags', name)
            with pytest.raises(OverflowError):
                transport.sendmsg([b'no'], (), 1 << 40, name)
            transport.close()

        self.run(main())

    def test_buffers(self):
        async def main():
            transport, protocol, name = await self.open()
            view = memoryview(array.array('i', [1, 2, 3]))
            for buffers in ([], [b''], [b'bytes'], [bytearray(b'array'), b'', memoryview(b'view')],
                            (b'a', b'tuple'), iter([b'an', b'iterator']), [view]):
                expected = b''.join(buffers) if isinstance(buffers, (list, tuple)) \
                    else b'aniterator'
                transport.sendmsg(buffers, (), 0, name)
                await protocol.wait(1)
                assert protocol.got.pop()[0] == expected
            with self.loop.create_buffer_pool(1, 5).acquire_nowait() as lease:
                lease[:] = b'lease'
                transport.sendmsg([lease, b's'], (), 0, name)
                transport.sendto_with(lease, name, ecn=1)
            await protocol.wait(2)
            assert [got[0] for got in protocol.got] == [b'leases', b'lease']
            with pytest.raises(ValueError, match='released'):
                transport.sendto_with(lease, name, ecn=1)
            transport.close()

        self.run(main())

    def test_a_train_of_the_programs_own(self):
        async def main():
            transport, protocol, name = await self.open()
            transport.sendmsg([bytes(1000), bytes(1001)],
                              [(SOL_UDP, UDP_SEGMENT, struct.pack('H', 667))], 0, name)
            await protocol.wait(3)
            assert [len(data) for data, _, _, _ in protocol.got] == [667, 667, 667]
            transport.close()

        self.run(main())

    def test_a_descriptor_that_is_no_socket_any_more(self):
        async def main():
            sock = udp()
            transport, protocol, _ = await self.open(sock=sock)
            sock.close()
            with udp() as other:                     # has the number, most likely
                transport.sendmsg([b'not from there'], (), 0, other.getsockname())
                assert [exc.errno for exc in protocol.errors] == [errno.EBADF]
                transport.abort()

        if isinstance(self.loop, CopyingLoop):
            pytest.skip('asyncio asks the socket object')
        self.run(main())


on_the_fallback_too(globals(), TestReceived, TestSent)
