"""Where io_uring is forbidden: the program runs on asyncio's loop, and is told why."""
import pytest

from tests.support.programs import python
from tests.support.seccomp import FORBID, forbidden


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
        (1, 'EPERM', ['seccomp', 'kernel.io_uring_disabled', 'allow io_uring_setup']),
        (13, 'EACCES', ['security policy', 'allow io_uring_setup']),
        (38, 'ENOSYS', ['CONFIG_IO_URING', 'seccomp']),
        (22, 'EINVAL', ['older than 6.1', 'use Linux 6.1 or newer']),
        (5, 'EIO', ['io_uring_setup(2)'])])
    def test_warns_once_and_works(self, error, name, words):
        first, second, *warned = forbidden(self.PROGRAM, error).splitlines()
        assert first == second
        assert first.startswith('asyncio.')
        assert first.endswith("b'echo'")
        [warning] = warned
        assert warning.startswith(f'RuntimeWarning io_uring is not available ({name}: ')
        assert warning.endswith("Using asyncio's own loop.")
        for word in words:
            assert word in warning

    def test_the_warning_points_at_the_caller(self):
        done = python('-c', FORBID + 'forbid_io_uring(1)\nimport uringloop\n'
                      'uringloop.new_event_loop().close()\n')
        assert done.returncode == 0
        assert done.stderr.startswith('<string>:')
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
