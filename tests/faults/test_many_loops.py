"""Ten thousand loops in one process, one after the other: nothing of them stays."""
import json
import os

from tests.support.namespaces import needs_root
from tests.support.programs import script

# Makes loops in each way, and says what the process had after each thousand.
LOOPS = '''
import asyncio, gc, json, os, socket, sys, threading, time, warnings
import uringloop
from tests.support.cases import assert_no_leaks
from tests.support.protocols import endpoint
from tests.support.work import WORK
exec(WORK)

import concurrent.futures.thread      # while it may be read
become(30_000, 8 << 20)
warnings.simplefilter('ignore', ResourceWarning)

async def datagrams():
    transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
    here = transport.get_extra_info('sockname')
    transport.sendto(b'x', here)
    await transport.sendto_zerocopy(bytes(2400), here, segment_size=1200)
    pool = asyncio.get_running_loop().create_buffer_pool(2, 4096)
    with await pool.acquire() as lease:
        transport.sendto(lease, here)
    await protocol.until(lambda p: len(p.datagrams) == 4)
    await pool.close()
    transport.close()
    await protocol.until(lambda p: p.lost)

async def stream():
    one, two = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=one)
    writer.write(b'hello')
    assert two.recv(5) == b'hello'
    writer.close()
    await writer.wait_closed()
    two.close()

async def left_open():
    await endpoint(local_addr=('127.0.0.1', 0))
    await asyncio.get_running_loop().run_in_executor(None, int)

def state():
    # A thread of an executor keeps what it ran last, and so the loop, until it has its turn.
    end = time.monotonic() + 10
    gc.collect()
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.001)
        gc.collect()
    with open('/proc/self/status') as file:
        status = dict(line.split(':', 1) for line in file)
    return {'descriptors': len(os.listdir('/proc/self/fd')), 'threads': int(status['Threads']),
            'resident': int(status['VmRSS'].split()[0]), 'locked': int(status['VmLck'].split()[0]),
            'pinned': int(status.get('VmPin', '0').split()[0]),
            'size': int(status['VmSize'].split()[0])}

def once(number):
    loop = uringloop.new_event_loop(require_uring=True)
    if number % 8 == 1:
        loop.run_until_complete(datagrams())
    elif number % 8 == 2:
        loop.run_until_complete(stream())
    elif number % 8 != 3:
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    if number % 100 == 1:
        assert_no_leaks(loop)

def never_closed(number):
    loop = uringloop.new_event_loop(require_uring=True)
    if number % 10 == 1:
        loop.run_until_complete(left_open())
    elif number % 10 > 4:
        loop.run_until_complete(asyncio.sleep(0))
    del loop
    if number % 50 == 0:
        gc.collect()

which = {'closed': once, 'never closed': never_closed}[sys.argv[1]]
count = int(sys.argv[2])
states = []
for number in range(count):
    if number % (count // 10) == count // 20:
        states.append(state())
    which(number)
states.append(state())
print(json.dumps(states))
'''


# The sanitizers keep what is freed, and are slow.
SANITIZED = 'asan' in os.environ.get('URINGLOOP_BUILD', '')


def flat(which, count):
    """What the process has does not grow: with 8 MiB that may be locked, as another user."""
    if SANITIZED:
        count //= 20
    # Of a C library that reserves no memory for threads that happen to run at the same time.
    states = json.loads(
        script(LOOPS, arguments=(which, count), timeout=200, MALLOC_ARENA_MAX='1'))
    first, last = states[1], states[-1]
    for name in 'descriptors', 'threads', 'locked', 'pinned':
        assert last[name] <= first[name], (name, states)
    if SANITIZED:
        return
    assert last['resident'] - first['resident'] < 4 << 10, states
    assert last['size'] - first['size'] < 64 << 10, states      # the C library keeps some stacks


@needs_root
def test_loops_that_are_closed():
    flat('closed', 10_000)


@needs_root
def test_loops_that_are_never_closed():
    flat('never closed', 1_000)
