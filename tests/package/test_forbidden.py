"""Where io_uring is forbidden: the program runs on asyncio's loop, and is told why."""
import sys
import textwrap

import pytest

from tests.support.features import needs_feature
from tests.support.namespaces import needs_root
from tests.support.programs import python, script
from tests.support.seccomp import FORBID, KILL, forbidden
from tests.support.work import WORK


def test_importing_makes_no_ring():
    assert forbidden('import uringloop; print("imported")') == 'imported\n'


class TestForbidden:

    PROGRAM = '''
        import asyncio, warnings
        import uringloop

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data, addr)

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                self.answer.set_result(data)

        async def main():
            loop = asyncio.get_running_loop()
            Client.answer = loop.create_future()
            server, _ = await loop.create_datagram_endpoint(Echo, ('127.0.0.1', 0))
            client, _ = await loop.create_datagram_endpoint(
                Client, remote_addr=server.get_extra_info('sockname'))
            client.sendto(b'echo')
            answer = await Client.answer
            client.close()
            server.close()
            return type(loop).__module__, answer

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            for _ in range(2):
                print(*uringloop.run(main()))
            uringloop.new_event_loop().close()
        for warning in caught:
            print(warning.category.__name__, warning.message)
        '''

    @pytest.mark.parametrize('error, name, words', [
        (1, 'EPERM', ['a seccomp filter forbids it', 'allow io_uring_setup']),
        (13, 'EACCES', ['security policy', 'allow io_uring_setup']),
        (38, 'ENOSYS', ['seccomp']),
        (12, 'ENOMEM', ['RLIMIT_MEMLOCK', 'ulimit -l']),
        (95, 'ENOTSUP', ['gVisor']),
        (22, 'EINVAL', ['older than 6.1', 'use Linux 6.1 or newer']),
        (5, 'EIO', ['io_uring_setup(2)'])])
    def test_warns_once_and_works(self, error, name, words):
        first, second, *warned = forbidden(self.PROGRAM, error).splitlines()
        assert first == second
        assert first.startswith('uringloop.copying.')
        assert first.endswith("b'echo'")
        [warning] = warned
        assert warning.startswith(f'RuntimeWarning io_uring is not available ({name}: ')
        assert warning.endswith("Using asyncio's own loop, by which all is copied; "
                                'URINGLOOP_DISABLE=1 asks for it without this warning.')
        for word in words:
            assert word in warning

    @pytest.mark.parametrize('call', [
        'uringloop.new_event_loop().close()', 'uringloop.run(asyncio.sleep(0))',
        'uringloop.install(); asyncio.run(asyncio.sleep(0))',
        'asyncio.Runner(loop_factory=uringloop.new_event_loop).get_loop().close()'])
    def test_the_warning_points_at_the_caller(self, tmp_path, call):
        if sys.version_info < (3, 11) and 'Runner' in call:
            pytest.skip('asyncio.Runner is new in 3.11')
        program = tmp_path / 'program.py'
        program.write_text(f'{FORBID}forbid_io_uring(1)\nimport asyncio, uringloop\n{call}\n')
        done = python('-W', 'ignore::DeprecationWarning', program)
        assert done.returncode == 0
        line = program.read_text().count('\n')
        assert done.stderr.startswith(f'{program}:{line}: RuntimeWarning: ')
        assert done.stderr.count('RuntimeWarning') == 1

    REQUIRED = '''
        import uringloop
        try:
            uringloop.new_event_loop({})
        except uringloop.UringUnavailableError as error:
            assert isinstance(error, OSError)
            print(error.errno, error)
        '''

    def test_required_by_argument_is_an_error(self):
        output = forbidden(self.REQUIRED.format('require_uring=True'))
        assert output.startswith('1 ')
        assert 'EPERM' in output and 'seccomp' in output

    def test_required_by_environment_is_an_error(self):
        output = forbidden(self.REQUIRED.format(''), URINGLOOP_REQUIRE='1')
        assert 'EPERM' in output

    def test_not_required_is_no_error(self):
        assert forbidden(self.REQUIRED.format(''), URINGLOOP_REQUIRE='0') == ''

    def test_required_and_run_is_an_error(self):
        done = python('-c', FORBID + 'forbid_io_uring(1)\nimport asyncio, uringloop\n'
                      'uringloop.run(asyncio.sleep(0))\n', URINGLOOP_REQUIRE='1')
        assert done.returncode == 1
        assert 'UringUnavailableError' in done.stderr


# Each call of the further API, once; prints what it did.
FURTHER = '''
    import asyncio, socket
    import uringloop
    from tests.support.protocols import endpoint

    def plain():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(('127.0.0.1', 0))
        sock.setblocking(False)
        return sock

    async def main():
        loop = asyncio.get_running_loop()
        receiver, received = await endpoint(local_addr=('127.0.0.1', 0), batch=False)
        to = receiver.get_extra_info('sockname')
        sender, _ = await endpoint(local_addr=('127.0.0.1', 0))
        assert isinstance(sender, uringloop.DatagramTransport)
        pool = loop.create_buffer_pool(2, 3000)
        with await pool.acquire() as lease:
            lease[:] = b'l' * 3000
            sender.sendto(lease, to)
            print(*await sender.sendto_zerocopy(lease, to, segment_size=1200))
            sender.sendto_many([lease[:5], b'many'], to)
            print(*await sender.sendto_many_zerocopy([(lease, to), bytearray(3)], to))
        await pool.close()
        memory = bytearray(500)
        async with loop.register_buffer(memory):
            print(*await sender.sendto_zerocopy(memory, to))
        with plain() as sock, plain() as other:
            print(*await loop.sock_sendto_zerocopy(sock, memory, to, segment_size=100))
            await loop.sock_sendmsg(sock, [b'm', b'sg'], (), 0, other.getsockname())
            print((await loop.sock_recvmsg(other, 100))[0])
        await received.until(lambda p: len(p.datagrams) == 14)
        print(sorted(set(map(len, received.datagrams))), loop.stats().datagrams_sent)
        receiver.close()
        sender.close()

    print(type(uringloop.new_event_loop()).__name__)
    uringloop.run(main())
    '''


class TestFurtherAPI:

    SAID = ("3000 True\n3003 True\n500 True\n500 True\nb'msg'\n"
            '[3, 4, 5, 100, 500, 600, 1200, 3000] ')

    @needs_feature('report_usage', where='send_zc')
    def test_on_the_ring(self):
        assert script(FURTHER, '-W', 'error').startswith('Loop\n' + self.SAID)

    def test_where_it_is_forbidden(self):
        assert forbidden(FURTHER).startswith('CopyingLoop\n' + self.SAID)

    def test_where_it_is_not_wanted(self):
        assert script(FURTHER, '-W', 'error', URINGLOOP_DISABLE='1') \
            .startswith('CopyingLoop\n' + self.SAID)

    @needs_root
    def test_where_a_user_may_lock_no_memory(self):
        done = python('-c', WORK + 'become(20_000, 0)\n' + textwrap.dedent(FURTHER))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith('CopyingLoop\n' + self.SAID)
        assert 'is not available (ENOMEM: ' in done.stderr
        assert 'RLIMIT_MEMLOCK: 0 bytes' in done.stderr


class TestDisabled:

    def test_other_values_do_not(self):
        for value in '', '0':
            assert script('import uringloop; print(type(uringloop.new_event_loop()).__name__)',
                          URINGLOOP_DISABLE=value) == 'Loop\n'

    def test_no_ring_is_asked_for(self):
        """A filter that kills whoever asks: there is nothing to be seen in an audit log."""
        assert forbidden('import uringloop; uringloop.new_event_loop().close(); print("alive")',
                         action=KILL, URINGLOOP_DISABLE='1') == 'alive\n'

    def test_bad_options_are_refused_all_the_same(self):
        assert script('''
            import uringloop
            try:
                uringloop.new_event_loop(entries=0)
            except ValueError as error:
                print(error)
            ''', URINGLOOP_DISABLE='1') == 'entries must be an integer from 1 to 32768, not 0\n'

    @pytest.mark.parametrize(('argument', 'required'), [('require_uring=True', '0'), ('', '1')])
    def test_and_required_is_an_error(self, argument, required):
        output = script(TestForbidden.REQUIRED.format(argument),
                        URINGLOOP_DISABLE='1', URINGLOOP_REQUIRE=required)
        assert 'URINGLOOP_DISABLE=1, and required' in output
        assert 'choose one' in output
