"""What an endpoint says of a protocol, or of options, that cannot be as they were meant."""
import asyncio
import functools
import re
import socket
import warnings

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import LOCAL, needs_ipv6, udp
from uringloop.datagram.protocol import ERRQUEUE_METHOD, METHODS


def wrong(name, bases=(uringloop.DatagramProtocol,), **further):
    """A class whose method of that name takes what nobody gives it."""
    return type('Wrong', bases, {name: lambda self, one, two, three, four, five: None, **further})


class TestWrongSignatures(UringCase):

    @pytest.mark.parametrize('name', [*METHODS, ERRQUEUE_METHOD])
    @pytest.mark.parametrize('bases', [
        (uringloop.DatagramProtocol,), (asyncio.DatagramProtocol,), (asyncio.BaseProtocol,), ()])
    def test_are_refused(self, name, bases):
        text = f'Wrong.{name} takes (self, one, two, three, four, five), and is to be called with ('
        with pytest.raises(TypeError, match=re.escape(text)):
            self.run(self.loop.create_datagram_endpoint(wrong(name, bases), local_addr=LOCAL))

    def test_one_of_several_is_refused(self):
        kind = wrong('datagram_received_with_info', datagrams_received=lambda self, batch: None)
        with pytest.raises(TypeError, match=r'and is to be called with \(data, addr, info\)'):
            self.run(self.loop.create_datagram_endpoint(kind, local_addr=LOCAL))

    def test_the_programs_own_socket_stays_open(self):
        with udp() as sock:
            with pytest.raises(TypeError):
                self.run(self.loop.create_datagram_endpoint(
                    wrong('datagrams_received'), sock=sock))
            assert sock.fileno() >= 0

    def test_set_protocol_refuses_them_too_and_changes_nothing(self):
        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                Recorder, local_addr=LOCAL)
            with pytest.raises(TypeError, match=r'Wrong\.datagrams_received'):
                transport.set_protocol(wrong('datagrams_received')())
            assert transport.get_protocol() is protocol
            transport.sendto(b'x', transport.get_extra_info('sockname'))
            await protocol.until(lambda seen: seen.datagrams == [b'x'])
            transport.close()

        self.run(main())

    def test_a_program_of_asyncios_may_have_methods_of_such_names(self):
        async def main():
            kind = wrong('datagrams_received', (Recorder,))
            transport, protocol = await self.loop.create_datagram_endpoint(kind, local_addr=LOCAL)
            transport.sendto(b'x', transport.get_extra_info('sockname'))
            await protocol.until(lambda seen: seen.datagrams == [b'x'])
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('kind', ['method', 'builtin', 'partial', 'object'])
    def test_what_is_not_given_the_protocol_is_a_method_too(self, kind):
        """As ``datagram_received`` may be, with asyncio."""
        class Sink:
            def take(self, batch):
                got.extend(batch)

            def __call__(self, batch):
                got.extend(batch)

        async def main():
            got.clear()
            transport, _ = await self.loop.create_datagram_endpoint(type('Hands', (), {
                'datagrams_received': how, 'connection_made': lambda protocol, transport: None,
                'connection_lost': lambda protocol, exc: None}), local_addr=LOCAL)
            transport.sendto(b'x', transport.get_extra_info('sockname'))
            while not got:
                await asyncio.sleep(0)
            assert got == [(b'x', transport.get_extra_info('sockname'))]
            transport.close()

        got = []
        how = {'method': Sink().take, 'builtin': got.extend, 'object': Sink(),
               'partial': staticmethod(functools.partial(Sink.take, None))}[kind]
        self.run(main())

    def test_a_counter_of_such_a_name_is_no_method(self):
        async def main():
            kind = type('Counts', (asyncio.DatagramProtocol,), {'datagrams_received': 0})
            transport, _ = await self.loop.create_datagram_endpoint(kind, local_addr=LOCAL)
            transport.close()

        self.run(main())


class TestUntold(UringCase):
    """Metadata that was asked for, of a protocol that has no method to be told by."""

    async def open(self, kind, **options):
        transport, _ = await self.loop.create_datagram_endpoint(kind, local_addr=LOCAL, **options)
        transport.close()

    @pytest.mark.parametrize('options', [
        {'ecn': True}, {'pktinfo': True, 'timestamps': True, 'drops': True}])
    def test_is_warned_of_where_it_was_asked_for(self, options):
        names = ', '.join(f'{name}=True' for name in options if name != 'drops')
        with pytest.warns(RuntimeWarning, match=f'^{names}: Recorder is not told') as told:
            self.run(self.open(Recorder, **options))
        assert told[0].filename == __file__

    def test_a_warning_that_is_an_error_leaves_nothing_open(self):
        async def main():
            kept = []
            with pytest.raises(RuntimeWarning, match='Recorder is not told'):
                await self.open(lambda: kept.append(Recorder()) or kept[0], ecn=True)
            await kept[0].until(lambda seen: seen.lost)

        with warnings.catch_warnings():
            warnings.simplefilter('error')
            self.run(main())

    @pytest.mark.filterwarnings('error')
    def test_who_is_gone_is_not_warned(self):
        class Gone(uringloop.DatagramProtocol):
            def connection_made(self, transport):
                transport.abort()

            def datagram_received_with_info(self, data, addr, info):
                pass

        self.run(self.open(Gone, ecn=True))

    @pytest.mark.parametrize('name', list(METHODS))
    def test_who_is_told_is_not_warned(self, name):
        # None at all; or by those that the class has.
        options = {} if not name.endswith('_info') and 'msg' not in name else {'ecn': True}
        kind = type('Told', (asyncio.DatagramProtocol,), {name: lambda self, *told: None})
        self.run(self.open(kind, **options))

    def test_drops_are_counted_for_everyone(self):
        self.run(self.open(Recorder, drops=True))


class TestAddresses(UringCase):

    @pytest.mark.parametrize('call', [
        'sendto_zerocopy', 'sendto_with', 'sendto_many', 'sendmsg'])
    def test_one_that_is_missing_is_asked_for(self, call):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            data = b'x' if 'to_' in call and 'many' not in call else [b'x']
            with pytest.raises(TypeError, match='an address is needed: the socket is not conn'):
                getattr(transport, call)(data)
            transport.close()

        self.run(main())


class TestOptions(UringCase):

    def test_a_misspelt_one_is_named(self):
        with pytest.raises(TypeError, match=r"^create_datagram_endpoint\(\) got an unexpected "
                                            r"keyword argument 'ecm'$"):
            self.run(endpoint(local_addr=LOCAL, ecm=True))

    def test_those_of_asyncio_are_taken(self):
        async def main():
            transport, _ = await endpoint(
                local_addr=LOCAL, family=socket.AF_INET, proto=0, flags=0, reuse_port=True,
                allow_broadcast=True)
            sock = transport.get_extra_info('socket')
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            transport.close()

        self.run(main())


class TestWords(UringCase):
    """Errors name what is wrong, and what cures it; on both loops, where both can."""

    def test_whose_value_is_no_integer(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            here = transport.get_extra_info('sockname')
            with pytest.raises(TypeError, match=r'^segment_size must be an integer, not str$'):
                transport.sendto_zerocopy(b'x', here, segment_size='1200')
            with pytest.raises(TypeError, match=r'^ecn must be an integer, not str$'):
                transport.sendto_with(b'x', here, ecn='CE')
            with pytest.raises(TypeError, match=r'encode the text$'):
                transport.sendto_many('text', here)
            transport.close()

        self.run(main())

    def test_without_an_address(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            for send in lambda: transport.sendto_with(b'x'), lambda: transport.sendmsg([b'x']):
                with pytest.raises(TypeError, match='address'):
                    send()
            transport.close()

        self.run(main())

    def test_text_on_a_closed_transport(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            transport.abort()
            await asyncio.sleep(0)
            with pytest.raises(TypeError, match=r"bytes-like object, not 'str'"):
                transport.sendto('text', LOCAL)

        self.run(main())

    def test_of_no_datagrams_none_is_copied(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            report = await transport.sendto_many_zerocopy([])
            assert report == uringloop.SendReport(0, False)
            transport.close()

        self.run(main())

    @only_uring
    @pytest.mark.parametrize(('host', 'longest'), [
        ('127.0.0.1', 65_507), pytest.param('::1', 65_527, marks=needs_ipv6)])
    def test_how_long_a_datagram_may_be(self, host, longest):
        async def main():
            transport, protocol = await endpoint(local_addr=(host, 0))
            transport.sendto(bytes(70_000), transport.get_extra_info('sockname'))
            await protocol.until(lambda seen: seen.errors)
            assert str(protocol.errors[0]).endswith(
                f'a datagram of 70000 bytes; it may have {longest}, '
                'segment_size= sends more as a train')
            transport.close()

        self.run(main())


on_the_fallback_too(
    globals(), TestWrongSignatures, TestUntold, TestAddresses, TestOptions, TestWords)
