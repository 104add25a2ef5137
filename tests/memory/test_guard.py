"""What the build for ``make asan`` watches besides: who touches a pool's memory in the wrong state.

See ``uringloop/ring/guard.h``.  Each test ends an interpreter of its own by one deliberate touch.
"""
import os
import textwrap

import pytest

from tests.support.compiled import compile_parts, needs_parts
from tests.support.features import needs_feature
from tests.support.programs import python

pytestmark = pytest.mark.skipif(
    'asan' not in os.environ.get('URINGLOOP_BUILD', ''), reason='of make asan only')

BEGIN = '''
import asyncio, ctypes, os, socket, sys
import uringloop

def address_of(lease):
    return ctypes.addressof(ctypes.c_char.from_buffer(lease))

class Receiver(asyncio.DatagramProtocol):
    got = False

    def datagram_received(self, data, addr):
        self.got = True

async def begin(size):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        Receiver, local_addr=('127.0.0.1', 0))
    pool = loop.create_buffer_pool(2, size)
    lease = await pool.acquire()
    lease[0] = 1
    return transport, pool, lease, address_of(lease)

async def main():
'''
SHORT, LONG = 1000, 20_000


def touched(size, body, *path):
    """``(exit code, output, what is told)`` of a program."""
    lines = textwrap.indent(textwrap.dedent(body), '    ')
    program = f'''{BEGIN}
    transport, pool, lease, place = await begin({size})
{lines}
    transport.abort()

uringloop.run(main())
print('nobody minded')
'''
    # Unbuffered: what it has said is to be had however it ends.
    done = python('-u', '-W', 'ignore', '-c', program, *path,
                  ASAN_OPTIONS=os.environ['ASAN_OPTIONS'].partition('log_path')[0]
                  + 'log_path=stderr')
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope='module')
def folder_of_parts(tmp_path_factory):
    return compile_parts(tmp_path_factory.mktemp('parts')).parent


def minded(code, told, *words):
    assert code != 0
    for word in words:
        assert word in told, told


class TestOfAPool:

    @pytest.mark.parametrize('size', [SHORT, LONG])
    def test_its_holder_may_write(self, size):
        code, output, told = touched(size, '''
            ctypes.memset(place, 1, 10)
            future = transport.sendto_zerocopy(lease, ('127.0.0.1', 9))
            ctypes.memset(place, 1, 10)
            await future
            lease.release()
            again = await pool.acquire_many(2)
            for lease in again:
                lease[:] = bytes(len(lease))
                lease.release()
            ''')
        assert (code, output) == (0, 'nobody minded\n'), told

    @pytest.mark.parametrize('touch', ['ctypes.memset(place, 1, 1)', 'ctypes.string_at(place, 8)'])
    def test_nobody_touches_what_is_lent_to_nobody(self, touch):
        code, output, told = touched(LONG, f'lease.release(); {touch}')
        assert output == ''
        minded(code, told, 'AddressSanitizer')

    def test_nor_a_short_one(self):
        code, output, told = touched(SHORT, 'lease.release(); ctypes.memset(place, 1, 1)')
        assert output == ''
        minded(code, told, 'use-after-poison')

    def test_nor_the_kernel(self):
        """Its call fails, and the process goes on."""
        code, output, told = touched(LONG, '''
            near, far = socket.socketpair()
            far.send(b'here')
            lease.release()
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.syscall(0, near.fileno(), ctypes.c_void_p(place), 4) == -1  # read, x86_64
            print(os.strerror(ctypes.get_errno()))
            ''') if os.uname().machine == 'x86_64' else (0, 'Bad address\nnobody minded\n', '')
        assert (code, output) == (0, 'Bad address\nnobody minded\n'), told

    @needs_feature('send_zc')
    def test_what_is_in_flight_is_only_read(self):
        body = '''
            future = transport.sendto_zerocopy(lease, ('127.0.0.1', 9))
            lease.release()
            assert pool.held == 1
            print(ctypes.string_at(place, 1))
            {}
            await future
            '''
        code, output, told = touched(LONG, body.format(''))
        assert (code, output) == (0, "b'\\x01'\nnobody minded\n"), told
        code, output, told = touched(LONG, body.format('ctypes.memset(place, 1, 1)'))
        assert output == "b'\\x01'\n"
        minded(code, told, 'AddressSanitizer', 'WRITE')

    @needs_feature('send_zc')
    @needs_parts
    def test_what_is_sent_is_lent_to_nobody(self, folder_of_parts):
        """Were the count of those who use it wrong."""
        code, output, told = touched(LONG, '''
            sys.path.insert(0, sys.argv[1])
            import parts
            future = transport.sendto_zerocopy(lease, ('127.0.0.1', 9))
            lease.release()
            parts.forget_uses(lease)
            print(pool.free)
            pool.acquire_nowait()           # the other one
            pool.acquire_nowait()
            ''', folder_of_parts)
        assert output == '2\n'
        minded(code, told, 'a buffer is lent that an operation still sends')


class TestOfTheArea:
    """That short datagrams are received into, and copied from."""

    PROGRAM = """
        sys.path.insert(0, sys.argv[1])
        import parts
        here = transport.get_extra_info('sockname')
        while not transport.get_protocol().got:
            transport.sendto(b'something', here)
            await asyncio.sleep(0.01)
        place = parts.area_of(asyncio.get_running_loop())
        ctypes.string_at(place, 4)
        """

    @needs_parts
    def test_what_was_copied_is_not_read_again(self, folder_of_parts):
        code, output, told = touched(SHORT, self.PROGRAM, folder_of_parts)
        assert output == ''
        minded(code, told, 'use-after-poison')
