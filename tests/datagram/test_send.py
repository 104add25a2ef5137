"""``sendto``: payloads, addresses, and what becomes of those that cannot be sent."""
import asyncio
import errno
import socket
import sys

import pytest

from tests.support.cases import both_sides
from tests.support.endpoints import Endpoints, QueuingRecorder
from tests.support.sockets import bound
from tests.support.turns import turns

EMPTY_ALLOWED = sys.version_info >= (3, 13)


class _TestSend(Endpoints):

    @pytest.mark.parametrize('size', [1, 2, 1200, 1472, 1473, 9000, 16384, 40000, 65507])
    def test_any_size_arrives_whole(self, size):
        async def main():
            client, receiver = await self.pair()
            payload = (bytes(range(251)) * 262)[:size]
            client.sendto(payload)
            client.sendto(bytearray(payload))
            client.sendto(memoryview(payload))
            for _ in range(3):
                data, address = await receiver.datagrams.get()
                assert type(data) is bytes
                assert data == payload
                assert address == client.get_extra_info('sockname')

        self.run(main())

    @pytest.mark.parametrize('size', [5, 1200, 20000, 60000])
    def test_mutable_payload_may_change_at_once(self, size):
        async def main():
            client, receiver = await self.pair()
            payload = bytearray(b'a' * size)
            client.sendto(payload)
            payload[:] = b'b' * size
            client.sendto(memoryview(payload))
            payload[:] = b'c' * size
            payload.extend(b'may grow')
            assert (await receiver.datagrams.get())[0] == b'a' * size
            assert (await receiver.datagrams.get())[0] == b'b' * size

        self.run(main())

    def test_slices_of_bytes_arrive_whole(self):
        async def main():
            client, receiver = await self.pair()
            payload = bytes(range(256)) * 100
            view = memoryview(payload)
            for start in range(0, len(payload), 1200):
                client.sendto(view[start:start + 1200])
            view.release()
            received = [(await receiver.datagrams.get())[0]
                        for _ in range(0, len(payload), 1200)]
            assert b''.join(received) == payload
            assert {len(data) for data in received[:-1]} == {1200}

        self.run(main())

    def test_bytes_are_kept_alive(self):
        async def main():
            client, receiver = await self.pair()
            for n in range(20):
                client.sendto(bytes([n]) * 3000)
                bytes([255]) * 3000      # reuses the memory, were it free
            for n in range(20):
                assert (await receiver.datagrams.get())[0] == bytes([n]) * 3000

        self.run(main())

    def test_views_of_other_items_are_sent_as_bytes(self):
        async def main():
            client, receiver = await self.pair()
            client.sendto(memoryview(b'12345678').cast('I'))
            client.sendto(memoryview(b'12345678').cast('B', (2, 4)))
            assert (await receiver.datagrams.get())[0] == b'12345678'
            assert (await receiver.datagrams.get())[0] == b'12345678'

        self.run(main())

    def test_subclasses_of_bytes_are_sent(self):
        class Bytes(bytes):
            pass

        async def main():
            client, receiver = await self.pair()
            client.sendto(Bytes(b'sub'))
            assert (await receiver.datagrams.get())[0] == b'sub'

        self.run(main())

    def test_empty_ones_are_sent(self):
        async def main():
            client, receiver = await self.pair()
            for payload in (b'', b'a', b'', bytearray(), memoryview(b''), b'b', b'b', b'', b'end'):
                client.sendto(payload)
            received = []
            while received[-1:] != [b'end']:
                received.append((await receiver.datagrams.get())[0])
            expected = [b'', b'a', b'', b'', b'', b'b', b'b', b'', b'end']
            assert received == [data for data in expected if data or EMPTY_ALLOWED]

        self.run(main())

    def test_empty_ones_are_received(self):
        async def main():
            transport, receiver = await self.endpoint()
            with bound() as peer:
                for payload in (b'', b'', b'x', b''):
                    peer.sendto(payload, transport.get_extra_info('sockname'))
                    assert await receiver.datagrams.get() == (payload, peer.getsockname())

        self.run(main())

    def test_host_names_are_resolved(self):
        async def main():
            server, receiver = await self.endpoint()
            client, _ = await self.endpoint()
            port = server.get_extra_info('sockname')[1]
            for host in ('localhost', '127.0.0.1', b'127.0.0.1', bytearray(b'localhost')):
                client.sendto(repr(host).encode(), (host, port))
                assert (await receiver.datagrams.get())[0] == repr(host).encode()
            client.sendto(b'any is local', ('', port))
            assert (await receiver.datagrams.get())[0] == b'any is local'

        self.run(main())

    def test_unresolvable_host_is_told_to_the_protocol(self):
        async def main():
            client, sender = await self.endpoint()
            # Not of this family; and no names at all.
            for host in '::1', 'example..invalid', '.invalid', '..', 'a' * 64, b'..':
                client.sendto(b'x', (host, 9))
                assert isinstance(await sender.errors.get(), socket.gaierror)
            await self.assert_alive(client)

        self.run(main())

    async def assert_alive(self, transport):
        server, receiver = await self.endpoint()
        transport.sendto(b'alive', server.get_extra_info('sockname'))
        assert (await receiver.datagrams.get())[0] == b'alive'

    @pytest.mark.parametrize('address', [
        ('::1', 9, 0, 0), 'a string', ('127.0.0.1', 'port'), ('127.0.0.1', 65536),
        ('127.0.0.1', -1), (1, 9), None, ('nul\0nul', 9), (),
        # What is wrong with several parts is the first one's: what is no number, then the name.
        (b'nul\0nul', 9), (1, 1 << 31), ('example..invalid', 1 << 31), ('example..invalid', 'x')])
    def test_malformed_address_closes_the_transport(self, address):
        # asyncio closes the transport with the error; None is EDESTADDRREQ or a TypeError.
        async def main():
            transport, protocol = await self.endpoint()
            transport.sendto(b'x', address)
            exc = await protocol.lost
            assert exc is not None
            with bound() as sock:
                with pytest.raises(type(exc)):
                    sock.sendto(b'x', address)
            [context] = self.problems
            assert context['exception'] is exc
            assert context['message'] == 'Fatal write error on datagram transport'
            assert context['transport'] is transport
            assert context['protocol'] is protocol

        self.run(main())

    @pytest.mark.parametrize('payload', ['text', 5, None, [1], object()])
    def test_what_is_not_bytes_is_refused(self, payload):
        async def main():
            client, receiver = await self.pair()
            with pytest.raises(TypeError, match='data argument must be'):
                client.sendto(payload)
            client.sendto(b'alive')
            assert (await receiver.datagrams.get())[0] == b'alive'

        self.run(main())

    def test_a_connected_endpoint_takes_its_peers_address_only(self):
        async def main():
            client, receiver = await self.pair()
            peer = client.get_extra_info('peername')
            client.sendto(b'one', peer)
            client.sendto(b'two', None)
            with pytest.raises(ValueError, match='Invalid address: must be None or'):
                client.sendto(b'three', ('127.0.0.1', 9))
            with pytest.raises(ValueError, match='Invalid address: must be None or'):
                client.sendto(bytearray(b'three'), ('127.0.0.1', 9))
            assert [(await receiver.datagrams.get())[0] for _ in range(2)] == [b'one', b'two']

        self.run(main())

    @pytest.mark.parametrize('kind', ['released', 'strided'])
    def test_bad_views_close_the_transport(self, kind):
        async def main():
            client, _ = await self.pair()
            protocol = client.get_protocol()
            view = memoryview(bytearray(b'0123456789'))
            if kind == 'released':
                view.release()
                if not EMPTY_ALLOWED:
                    # Its length was asked for, for there to be something to send.
                    with pytest.raises(ValueError):
                        client.sendto(view)
                    return
            else:
                view = view[::2]
            client.sendto(view)
            assert isinstance(await protocol.lost, (ValueError, BufferError))
            assert len(self.problems) == 1

        self.run(main())

    def test_too_long_ones_are_told_and_the_rest_arrives(self):
        async def main():
            client, receiver = await self.pair()
            sender = client.get_protocol()
            client.sendto(b'before')
            client.sendto(bytes(65508))
            client.sendto(bytearray(100000))
            client.sendto(b'after')
            for _ in range(2):
                assert (await sender.errors.get()).errno == errno.EMSGSIZE
            assert (await receiver.datagrams.get())[0] == b'before'
            assert (await receiver.datagrams.get())[0] == b'after'
            assert not sender.lost.done()
            assert client.get_write_buffer_size() == 0

        self.run(main())

    def test_a_refusal_is_told_and_sending_goes_on(self):
        async def main():
            with bound() as sock:
                address = sock.getsockname()
            client, sender = await self.endpoint(remote_addr=address)
            client.sendto(b'nobody is there')
            assert isinstance(await sender.errors.get(), ConnectionRefusedError)
            assert not client.is_closing()
            with bound(address=address) as peer:
                client.sendto(b'now there is')
                await turns()
                assert peer.recv(100) == b'now there is'
                peer.sendto(b'yes', client.get_extra_info('sockname'))
                assert (await sender.datagrams.get())[0] == b'yes'

        self.run(main())

    def test_a_gone_unix_peer_is_told_to_the_protocol(self, tmp_path):
        async def main():
            client, sender = await self.endpoint(family=socket.AF_UNIX)
            client.sendto(b'x', str(tmp_path / 'nothing'))
            assert isinstance(await sender.errors.get(), FileNotFoundError)
            bound(socket.AF_UNIX, str(tmp_path / 'dead')).close()
            client.sendto(b'x', str(tmp_path / 'dead'))
            assert isinstance(await sender.errors.get(), ConnectionRefusedError)
            assert not sender.lost.done()

        self.run(main())

    def test_sent_while_the_loop_does_not_run(self):
        with bound() as peer:
            transport, protocol = self.loop.run_until_complete(
                self.loop.create_datagram_endpoint(
                    QueuingRecorder, remote_addr=peer.getsockname()))
            transport.sendto(b'not running')
            assert peer.recv(100) == b'not running'
            transport.close()
            self.loop.run_until_complete(asyncio.wait_for(protocol.lost, 5))
            self.turns()

    def test_sent_as_the_last_act_before_stop(self):
        with bound() as peer:
            transport, protocol = self.loop.run_until_complete(
                self.loop.create_datagram_endpoint(QueuingRecorder, remote_addr=peer.getsockname()))

            def last():
                transport.sendto(b'last words')
                self.loop.stop()

            self.loop.call_soon(last)
            try:
                self.forever()
                peer.setblocking(False)
                assert peer.recv(100) == b'last words'
            finally:
                transport.close()
                self.loop.run_until_complete(asyncio.wait_for(protocol.lost, 5))
                self.turns()

    def test_close_right_after_a_send_as_the_last_act(self):
        with bound() as peer:
            async def main():
                transport, _ = await self.loop.create_datagram_endpoint(
                    QueuingRecorder, remote_addr=peer.getsockname())
                transport.sendto(b'bye')
                transport.close()

            self.loop.run_until_complete(main())
            assert peer.recv(100) == b'bye'
            self.turns(5)


both_sides(globals(), _TestSend)
