"""No memory to receive into: that ends the transport which wanted it, and no other."""
import os
import shutil
import subprocess
import textwrap

import pytest

from tests.support.programs import script
from tests.support.work import WORK

# Receives until there is no memory; then something small still works.
EXHAUSTED = WORK + '''
import resource, threading

problems = []
payload = bytes(60_000)

class Keeping(Recorder):
    def connection_made(self, transport):
        super().connection_made(transport)
        made.set_result(self)

    def data_received(self, data):
        self.datagram_received(data, None)

    def eof_received(self):
        pass

def feed(sock, size, address):
    try:
        while not over.is_set():
            if address is None:
                sock.sendall(payload[:size])
            else:
                sock.sendto(payload[:size], address)
    except OSError:
        pass

async def main(kind, size):
    global made, over
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: problems.append(context['exception']))
    made = loop.create_future()
    over = threading.Event()
    if kind == 'stream':
        server = await loop.create_server(Keeping, '127.0.0.1', 0)
        sock = socket.create_connection(server.sockets[0].getsockname())
        address = None
    else:
        server, _ = await loop.create_datagram_endpoint(Keeping, local_addr=('127.0.0.1', 0))
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        address = server.get_extra_info('sockname')
    protocol = await made
    lost = loop.create_future()
    protocol.connection_lost = lost.set_result
    thread = threading.Thread(target=feed, args=(sock, size, address))
    thread.start()
    await protocol.until(lambda p: len(p.datagrams) > 8)
    with open('/proc/self/status') as status:
        used = int(status.read().split('VmSize:')[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), -1))
    over_with = await lost
    over.set()
    protocol.datagrams.clear()
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    sock.close()
    thread.join()
    server.close()
    return type(over_with).__name__, [type(problem).__name__ for problem in problems]

loop = uringloop.new_event_loop(require_uring=True)
print(loop.run_until_complete(asyncio.wait_for(main(*PARAMETERS), 20)))
print(work_on(loop))
loop.close()
'''


@pytest.mark.parametrize('parameters', [
    ('datagrams', 9000), ('datagrams', 60_000), ('stream', 9000), ('stream', 60_000)])
def test_a_memory_error_ends_that_transport_and_is_reported(parameters):
    """MemoryError while something is received ends that transport, and is reported, as asyncio."""
    said, worked = script(EXHAUSTED.replace('*PARAMETERS', repr(parameters)[1:-1])).splitlines()
    assert said == "('MemoryError', ['MemoryError'])"
    assert worked == 'Loop'


def test_acquiring_a_lease_without_any_memory():
    """Not even the traceback of the MemoryError can be had."""
    pytest.importorskip('_testcapi')
    assert script('''
        import asyncio, _testcapi, uringloop

        async def main():
            pool = asyncio.get_running_loop().create_buffer_pool(4, 4096)
            refused = 0
            for first in range(1, 4):
                _testcapi.set_nomemory(first, first + 30)
                try:
                    lease = await pool.acquire()
                except MemoryError:
                    lease = None
                finally:
                    _testcapi.remove_mem_hooks()
                refused += lease is None
                if lease is not None:
                    lease.release()
            print(refused > 0, pool.free)

        uringloop.run(main())
        ''', URINGLOOP_REQUIRE='1') == 'True 4\n'


@pytest.mark.parametrize('call', [
    'transport.sendmsg([bytearray(5000)] * 5)', 'loop._ready[:]'])
def test_lists_without_any_memory(call):
    """MemoryError, and nothing freed twice."""
    pytest.importorskip('_testcapi')
    assert script(f'''
        import asyncio, _testcapi, uringloop

        async def main():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=('127.0.0.1', 9))
            for first in range(1, 40):
                loop.call_soon(int)
                _testcapi.set_nomemory(first, first + 1)
                try:
                    {call}
                except (MemoryError, BufferError, RuntimeError):
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
            await asyncio.sleep(0)
            print('alive')

        uringloop.run(main())
        ''', URINGLOOP_REQUIRE='1', PYTHONMALLOC='malloc', MALLOC_CHECK_='3') == 'alive\n'


def test_a_report_of_several_trains():
    """Its future is told, whichever allocation fails."""
    pytest.importorskip('_testcapi')
    assert script('''
        import asyncio, _testcapi, uringloop

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: None)
            peer, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
            to, content = peer.get_extra_info('sockname'), bytearray(200_000)
            for first in range(1, 30):
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
                sent = None
                _testcapi.set_nomemory(first, first + 1)
                try:
                    sent = transport.sendto_zerocopy(content, to, segment_size=1000)
                except MemoryError:
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
                if sent is not None:
                    await asyncio.wait_for(asyncio.wait([sent]), 5)
                    sent.exception()
                transport.abort()
            await asyncio.sleep(0)
            print('all told')

        uringloop.run(main())
        ''', URINGLOOP_REQUIRE='1') == 'all told\n'


def test_futures_of_what_is_aborted():
    """Each is told, whichever allocation fails."""
    pytest.importorskip('_testcapi')
    assert script('''
        import asyncio, gc, socket, _testcapi, uringloop

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: None)
            for first in range(1, 60):
                ours, peer = socket.socketpair(type=socket.SOCK_DGRAM)
                ours.setblocking(False)
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, sock=ours)
                sent = []
                while transport.get_write_buffer_size() < 5000:
                    sent.append(transport.sendto_zerocopy(bytes(1000)))
                sent.append(transport.sendto_many_zerocopy([b'one', b'two']))
                await asyncio.sleep(0)
                gc.disable()
                _testcapi.set_nomemory(first, first + 1)
                try:
                    transport.abort()
                except MemoryError:
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
                    gc.enable()
                await asyncio.wait_for(asyncio.wait(sent), 5)
                for each in sent:
                    each.exception()
                peer.close()
            print('all told')

        uringloop.run(main())
        ''', URINGLOOP_REQUIRE='1') == 'all told\n'


# Runs a loop in which one allocation fails; whether it has left the run.
FAILING = '''
import asyncio, gc, os, signal, threading, _testcapi, uringloop

def fails(loop, first):
    gc.disable()
    _testcapi.set_nomemory(first, first + 1)
    try:
        loop.run_forever()
    except MemoryError:
        return True
    finally:
        _testcapi.remove_mem_hooks()
        gc.enable()
        asyncio._set_running_loop(None)      # asyncio's own may have been what failed
    return False
'''


def test_a_run_that_cannot_begin():
    """The next one begins anew, with all that wakes the loop."""
    pytest.importorskip('_testcapi')
    assert script(FAILING + textwrap.dedent('''
        failed = 0
        for first in range(40):
            for again in True, False:
                loop = uringloop.new_event_loop()
                loop.call_soon(loop.stop)
                failed += fails(loop, first)
                if again:
                    loop.call_soon(loop.stop)
                    loop.run_forever()               # what is queued, and stops it
                    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
                    for wake in (lambda: loop.call_soon_threadsafe(loop.stop),
                                 lambda: signal.raise_signal(signal.SIGUSR1)):
                        timer = threading.Timer(0.01, wake)
                        loop.call_soon(timer.start)
                        late = loop.call_later(10, lambda: (print('not woken'), loop.stop()))
                        loop.call_soon(int)
                        loop.run_forever()
                        timer.join()
                        late.cancel()
                loop.close()
        print('failed and ran' if failed else 'none has failed')
        '''), URINGLOOP_REQUIRE='1') == 'failed and ran\n'


def test_a_turn_that_hears_of_something():
    """Readers and signals are heard of later on, whatever of it there was no memory for."""
    pytest.importorskip('_testcapi')
    assert script(FAILING + textwrap.dedent('''
        def hear(what):
            heard.add(what)
            if len(heard) == 2:
                loop.stop()

        def make():
            os.write(other, b'!')
            signal.raise_signal(signal.SIGUSR1)

        failed = 0
        for failing in range(30):
            heard = set()
            loop = uringloop.new_event_loop()
            loop.set_exception_handler(lambda loop, context: None)
            end, other = os.pipe()
            loop.add_reader(end, lambda: (os.read(end, 1), hear('a reader')))
            loop.add_signal_handler(signal.SIGUSR1, hear, 'a signal')
            loop.call_soon(loop.stop)
            loop.run_forever()
            make()
            # A signal that there was no memory to read of is lost, as with asyncio.
            enough = loop.call_later(0.2, loop.stop)
            failed += fails(loop, failing)
            enough.cancel()
            heard.clear()
            make()
            late = loop.call_later(10, lambda: (print('not heard'), loop.stop()))
            loop.run_forever()
            late.cancel()
            loop.remove_reader(end)
            loop.close()
            for fd in (end, other):
                os.close(fd)
        print('failed and heard' if failed else 'none has failed')
        '''), URINGLOOP_REQUIRE='1') == 'failed and heard\n'


@pytest.mark.parametrize('end', ['lease.release()', 'pool.close()'])
def test_who_waits_for_a_lease(end):
    """It is told that there was no memory, and does not keep others waiting."""
    pytest.importorskip('_testcapi')
    assert script(f'''
        import asyncio, contextlib, gc, _testcapi, uringloop

        async def main():
            loop = asyncio.get_running_loop()
            # The next one would be that of the future's own call_soon(), as with asyncio.
            for first in range(2):
                pool = loop.create_buffer_pool(1, 100)
                lease = pool.acquire_nowait()
                waiting = asyncio.ensure_future(pool.acquire())
                await asyncio.sleep(0)
                gc.disable()
                _testcapi.set_nomemory(first, first + 1)
                try:
                    {end}
                except MemoryError:
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
                    gc.enable()
                with contextlib.suppress(ValueError):     # it was released, it had not begun
                    {end}
                await asyncio.wait_for(asyncio.wait([waiting]), 5)
                if waiting.exception() is None:
                    waiting.result().release()
                with contextlib.suppress(ValueError):
                    lease.release()
                assert pool.free == 1
            print('all told')

        uringloop.run(main())
        ''', URINGLOOP_REQUIRE='1') == 'all told\n'


NO_OPERATIONS = '''
#include <stddef.h>
int refused = -1;                 /* calls that were refused; below zero: none is to be */
void *__libc_calloc(size_t, size_t);
void *calloc(size_t count, size_t size)
{
    if (refused >= 0 && count == 64 && size > 200) {
        refused++;
        return NULL;
    }
    return __libc_calloc(count, size);
}
'''

REFUSED_IN_A_CHAIN = '''
import asyncio, ctypes, socket, uringloop

refused = ctypes.c_int.in_dll(ctypes.CDLL(None), 'refused')

class Protocol(asyncio.DatagramProtocol):
    def connection_lost(self, exc):
        lost.set_result(type(exc).__name__)

async def main():
    global lost
    loop = asyncio.get_running_loop()
    lost = loop.create_future()
    loop.set_exception_handler(lambda loop, context: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(('127.0.0.1', 0))
        transport, _ = await loop.create_datagram_endpoint(
            Protocol, remote_addr=gone.getsockname())
    other, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
    # Afterwards there is memory for 64 operations: for the chain, and not for all again.
    await other.sendto_zerocopy(b'y', other.get_extra_info('sockname'))
    transport.sendto(b'x')                # an error waits, which the first of the chain is told
    pool = loop.create_buffer_pool(64, 8000)
    leases = await pool.acquire_many(40)
    before = loop.stats()
    refused.value = 0
    sent = transport.sendto_many_zerocopy([lease[:7000] for lease in leases])
    while leases:
        leases.pop().release()
    print('refused:', refused.value > 0)
    refused.value = -1
    try:
        await sent
    except (MemoryError, OSError) as exc:
        print('told')
    print(await lost)
    after = loop.stats()
    print(after.datagrams_sent + after.datagrams_dropped
          - before.datagrams_sent - before.datagrams_dropped)
    while pool.free < 64:
        await asyncio.sleep(0)

uringloop.run(asyncio.wait_for(main(), 20))
'''


@pytest.mark.skipif(not shutil.which('gcc') or 'LD_PRELOAD' in os.environ,
                    reason='needs gcc; a sanitizer has calloc')
def test_a_chain_that_cannot_be_tried_again(tmp_path):
    """Its futures are told, its buffers come back, and all of it counts."""
    source = tmp_path / 'calloc.c'
    source.write_text(NO_OPERATIONS)
    library = tmp_path / 'calloc.so'
    subprocess.run(['gcc', '-shared', '-fPIC', source, '-o', library], check=True)
    assert script(REFUSED_IN_A_CHAIN, LD_PRELOAD=str(library), URINGLOOP_REQUIRE='1') == (
        'refused: True\ntold\nMemoryError\n40\n')
