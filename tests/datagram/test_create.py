"""``create_datagram_endpoint``: addresses, families, options, sockets, and what it refuses."""
import asyncio
import errno
import socket
import sys
from unittest import mock

import pytest

from tests.support.cases import ASYNCIO_PAUSES, both_sides
from tests.support.endpoints import Endpoints, QueuingRecorder
from tests.support.sockets import LOCAL, bound, needs_ipv6, unix_pair
from tests.support.turns import turns

# Python 3.10 asserts.
NOT_A_PAIR = AssertionError if sys.version_info < (3, 11) else TypeError


class _TestCreate(Endpoints):

    def test_at_a_local_address(self):
        async def main():
            transport, protocol = await self.endpoint()
            assert isinstance(protocol, QueuingRecorder)
            assert protocol.transport is transport
            assert transport.get_protocol() is protocol
            assert protocol.calls == ['made']
            sock = transport.get_extra_info('socket')
            assert sock.family == socket.AF_INET
            assert sock.type == socket.SOCK_DGRAM
            assert transport.get_extra_info('sockname') == sock.getsockname()
            assert transport.get_extra_info('peername') is None
            assert transport.get_extra_info('nothing') is None
            assert transport.get_extra_info('nothing', 'default') == 'default'
            assert not transport.is_closing()
            if self.uring or ASYNCIO_PAUSES:
                assert transport.is_reading()

        self.run(main())

    def test_the_transport_is_one_of_asyncios_kinds(self):
        async def main():
            transport, _ = await self.endpoint()
            assert isinstance(transport, asyncio.BaseTransport)
            if self.uring or sys.version_info >= (3, 12):
                assert isinstance(transport, asyncio.DatagramTransport)

        self.run(main())

    def test_connected_to_a_remote_address(self):
        async def main():
            with bound() as peer:
                transport, protocol = await self.endpoint(remote_addr=peer.getsockname())
                assert transport.get_extra_info('peername') == peer.getsockname()
                transport.sendto(b'hello')
                await turns()
                data, address = peer.recvfrom(100)
                assert data == b'hello'
                assert address == transport.get_extra_info('sockname')
                peer.sendto(b'answer', address)
                assert await protocol.datagrams.get() == (b'answer', peer.getsockname())

        self.run(main())

    def test_both_addresses(self):
        async def main():
            with bound() as peer:
                transport, _ = await self.endpoint(
                    local_addr=LOCAL, remote_addr=peer.getsockname(),
                    family=socket.AF_INET, proto=socket.IPPROTO_UDP, flags=socket.AI_PASSIVE)
                assert transport.get_extra_info('peername') == peer.getsockname()

        self.run(main())

    def test_family_only(self):
        async def main():
            transport, _ = await self.endpoint(family=socket.AF_INET)
            _, receiver = server = await self.endpoint()
            transport.sendto(b'x', server[0].get_extra_info('sockname'))
            assert (await receiver.datagrams.get())[0] == b'x'

        self.run(main())

    def test_host_name_is_resolved(self):
        async def main():
            transport, _ = await self.endpoint(
                local_addr=('localhost', 0), family=socket.AF_INET)
            assert transport.get_extra_info('sockname')[0] == '127.0.0.1'

        self.run(main())

    def test_reuse_port_shares_the_port(self):
        async def main():
            first, _ = await self.endpoint(local_addr=LOCAL, reuse_port=True)
            address = first.get_extra_info('sockname')
            second, _ = await self.endpoint(local_addr=address, reuse_port=True)
            assert second.get_extra_info('sockname') == address
            with pytest.raises(OSError) as caught:
                await self.endpoint(local_addr=address)
            assert caught.value.errno == errno.EADDRINUSE

        self.run(main())

    def test_broadcast_takes_permission(self):
        async def main():
            receiver, protocol = await self.endpoint(local_addr=('0.0.0.0', 0))
            address = ('127.255.255.255', receiver.get_extra_info('sockname')[1])
            transport, _ = await self.endpoint(local_addr=LOCAL, allow_broadcast=True)
            assert transport.get_extra_info('socket').getsockopt(
                socket.SOL_SOCKET, socket.SO_BROADCAST)
            transport.sendto(b'to all', address)
            assert await protocol.datagrams.get() \
                == (b'to all', transport.get_extra_info('sockname'))
            forbidden, sender = await self.endpoint()
            forbidden.sendto(b'to all', address)
            assert isinstance(await sender.errors.get(), PermissionError)

        self.run(main())

    def test_broadcast_with_a_remote_address_is_not_connected(self):
        # Not connected then: any peer may answer.
        async def main():
            receiver, protocol = await self.endpoint(local_addr=('0.0.0.0', 0))
            address = ('127.255.255.255', receiver.get_extra_info('sockname')[1])
            transport, answers = await self.endpoint(
                remote_addr=address, local_addr=LOCAL, allow_broadcast=True)
            assert transport.get_extra_info('peername') is None
            transport.sendto(b'anyone')
            data, peer = await protocol.datagrams.get()
            assert data == b'anyone'
            transport.sendto(b'same', address)
            assert (await protocol.datagrams.get())[0] == b'same'
            with pytest.raises(ValueError, match='Invalid address'):
                transport.sendto(b'other', LOCAL)
            receiver.sendto(b'here', peer)
            assert (await answers.datagrams.get())[0] == b'here'

        self.run(main())

    def test_multicast_group_is_joined(self):
        async def main():
            group = '239.255.77.13'
            receiver, protocol = await self.endpoint(local_addr=('0.0.0.0', 0))
            receiver.get_extra_info('socket').setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                socket.inet_aton(group) + socket.inet_aton('127.0.0.1'))
            transport, _ = await self.endpoint()
            transport.get_extra_info('socket').setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('127.0.0.1'))
            transport.sendto(b'group', (group, receiver.get_extra_info('sockname')[1]))
            assert (await protocol.datagrams.get())[0] == b'group'

        self.run(main())

    @needs_ipv6
    def test_ipv6_addresses_of_any_form(self):
        async def main():
            server, receiver = await self.endpoint(local_addr=('::1', 0))
            address = server.get_extra_info('sockname')
            assert len(address) == 4
            client, answers = await self.endpoint(remote_addr=address[:2])
            client.sendto(b'six')
            data, peer = await receiver.datagrams.get()
            assert (data, peer) == (b'six', client.get_extra_info('sockname'))
            server.sendto(b'back', peer)
            assert await answers.datagrams.get() == (b'back', address)
            other, _ = await self.endpoint(local_addr=('::1', 0))
            for form in (address[:2], (*address[:2], 0), (*address[:2], 0, 0),
                         (*address[:3], socket.if_nametoindex('lo'))):
                other.sendto(repr(form).encode(), form)
                assert (await receiver.datagrams.get())[0] == repr(form).encode()

        self.run(main())

    def test_unix_paths(self, tmp_path):
        async def main():
            path = str(tmp_path / 'server')
            server, receiver = await self.endpoint(family=socket.AF_UNIX, local_addr=path)
            assert server.get_extra_info('sockname') == path
            client_path = str(tmp_path / 'client')
            client, answers = await self.endpoint(
                family=socket.AF_UNIX, local_addr=client_path, remote_addr=path)
            client.sendto(b'hello')
            assert await receiver.datagrams.get() == (b'hello', client_path)
            server.sendto(b'back', client_path)
            assert await answers.datagrams.get() == (b'back', path)
            nameless, _ = await self.endpoint(family=socket.AF_UNIX)
            nameless.sendto(b'who?', path)
            data, address = await receiver.datagrams.get()
            assert data == b'who?'
            assert not address

        self.run(main())

    def test_unix_abstract_names(self):
        async def main():
            with bound(socket.AF_UNIX, '') as peer:      # autobind: an abstract name
                name = peer.getsockname()
                assert name[:1] == b'\0'
                transport, protocol = await self.endpoint(family=socket.AF_UNIX)
                transport.sendto(b'hello', name)
                await turns()
                assert peer.recv(100) == b'hello'
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                sock.bind('')
                _, receiver = await self.endpoint(sock=sock)
                peer.sendto(b'back', sock.getsockname())
                assert await receiver.datagrams.get() == (b'back', name)
                assert protocol.errors.empty()

        self.run(main())

    def test_unix_stale_path_is_taken_over(self, tmp_path):
        async def main():
            path = str(tmp_path / 'stale')
            bound(socket.AF_UNIX, path).close()
            transport, _ = await self.endpoint(family=socket.AF_UNIX, local_addr=path)
            assert transport.get_extra_info('sockname') == path

        self.run(main())

    def test_unix_datagrams_are_longer_than_udp_ones(self):
        async def main():
            one, two = unix_pair()
            sender, _ = await self.endpoint(sock=one)
            _, receiver = await self.endpoint(sock=two)
            payload = bytes(range(256)) * 600
            sender.sendto(payload)
            assert (await receiver.datagrams.get())[0] == payload

        self.run(main())

    def test_of_a_connected_socket(self):
        async def main():
            with bound() as peer:
                sock = bound()
                sock.connect(peer.getsockname())
                transport, _ = await self.endpoint(sock=sock)
                assert sock.gettimeout() == 0
                assert transport.get_extra_info('peername') == peer.getsockname()
                transport.sendto(b'one')
                # asyncio ignores the address of a connected sock=.
                transport.sendto(b'two', ('127.0.0.1', 9))
                await turns()
                assert [peer.recv(10), peer.recv(10)] == [b'one', b'two']

        self.run(main())

    def test_of_an_unconnected_socket(self):
        async def main():
            transport, protocol = await self.endpoint(sock=bound())
            with bound() as peer:
                transport.sendto(b'hello', peer.getsockname())
                await turns()
                data, address = peer.recvfrom(10)
                assert data == b'hello'
                peer.sendto(b'back', address)
                assert await protocol.datagrams.get() == (b'back', peer.getsockname())

        self.run(main())

    def test_bad_combinations_are_refused(self):
        async def main():
            create = self.loop.create_datagram_endpoint
            with pytest.raises(ValueError, match='unexpected address family'):
                await create(QueuingRecorder)
            with pytest.raises(NOT_A_PAIR, match='2-tuple is expected'):
                await create(QueuingRecorder, local_addr='localhost')
            with pytest.raises(NOT_A_PAIR, match='2-tuple is expected'):
                await create(QueuingRecorder, remote_addr=('localhost', 1, 2, 3))
            with pytest.raises(TypeError, match='string is expected'):
                await create(QueuingRecorder, family=socket.AF_UNIX, local_addr=LOCAL)
            with pytest.raises(OSError):
                await create(QueuingRecorder, local_addr=LOCAL, family=socket.AF_INET6)
            with socket.socket() as stream:
                with pytest.raises(ValueError, match=r'(?i)socket was expected'):
                    await create(QueuingRecorder, sock=stream)
            with bound() as sock:
                for wrong in ({'local_addr': LOCAL}, {'remote_addr': LOCAL}, {'proto': 1},
                              {'family': socket.AF_INET}, {'flags': 1}, {'reuse_port': True},
                              {'allow_broadcast': True}):
                    with pytest.raises(ValueError, match='socket modifier keyword'):
                        await create(QueuingRecorder, sock=sock, **wrong)

        self.run(main())

    def test_an_exception_of_the_factory_comes_out(self):
        async def main():
            def factory():
                raise ZeroDivisionError

            with bound() as sock:
                with pytest.raises(ZeroDivisionError):
                    await self.loop.create_datagram_endpoint(factory, sock=sock)

        self.run(main())

    @pytest.mark.parametrize('attributes', [{}, {'family': mock.Mock()}])
    def test_a_socket_that_only_looks_like_one(self, attributes):
        """What asyncio does not look at is not looked at."""
        class Fake:
            type = socket.SOCK_DGRAM

        fake = Fake()
        vars(fake).update(attributes)
        with pytest.raises(ValueError, match='sock'):
            self.run(self.loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, reuse_port=True, sock=fake))

    def test_cancelled_creation_closes_the_endpoint(self):
        async def main():
            lost = self.loop.create_future()

            class Protocol(asyncio.DatagramProtocol):
                def connection_lost(self, exc):
                    lost.set_result(exc)

            task = asyncio.ensure_future(
                self.loop.create_datagram_endpoint(Protocol, sock=bound()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await lost is None

        self.run(main())


both_sides(globals(), _TestCreate)
