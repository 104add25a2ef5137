"""Ways for sends to end.  Each is a function that sends so many datagrams, and is done with them.

It has a loop of its own, or several, and leaves nothing: ``measure`` looks at what it has left.
"""
from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import socket
import warnings
from asyncio.log import logger
from collections.abc import Callable, Coroutine

import uringloop
from tests.support.cases import assert_no_leaks
from tests.support.sockets import LOCAL, deserted, udp

SHORT, LONG = b's' * 100, b'l' * 20_000
BURST = 50                  # sends between two turns
PER_LOOP = 200              # sends of a loop that is then closed in the midst of it
PER_TRANSPORT = 100

ENDINGS: dict[str, Callable[[int], object]] = {}


class Silent(asyncio.DatagramProtocol):
    """Counts what it is told."""

    errors = received = 0
    paused = False
    lost = False

    def error_received(self, exc):
        self.errors += 1

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False

    def connection_lost(self, exc):
        self.lost = True


class Raises(Silent):
    """Raises wherever it is called."""

    def datagram_received(self, data, addr):
        raise ZeroDivisionError

    error_received = pause_writing = resume_writing = connection_lost = \
        lambda self, *_: 1 / 0


def quiet_loop() -> uringloop.Loop:
    loop = uringloop.new_event_loop(require_uring=True)
    loop.set_exception_handler(lambda loop, context: None)
    return loop


def run(main: Coroutine) -> None:
    """On a loop that is closed afterwards."""
    loop = quiet_loop()
    try:
        loop.run_until_complete(main)
        for _ in range(10):
            loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    assert_no_leaks(loop)


def ending(function: Callable) -> Callable:
    """Of a coroutine function: what it does is run on a loop of its own."""
    def sends(count: int) -> None:
        run(function(count))

    ENDINGS[function.__name__] = sends if inspect.iscoroutinefunction(function) else function
    return function


async def endpoint(protocol: type = Silent, **how) -> tuple:
    return await asyncio.get_running_loop().create_datagram_endpoint(
        protocol, **how or {'local_addr': LOCAL})


async def pair() -> tuple:
    """A transport, and a plain socket that it sends to and that has no room for much."""
    sink = udp(room=1)
    transport, _ = await endpoint(remote_addr=sink.getsockname())
    return transport, sink


def bursts(count: int) -> range:
    return range(max(count // BURST, 1))


# -- delivered -------------------------------------------------------------------------------------

@ending
async def delivered(count):
    """Of each kind of memory, alone and in bulk."""
    transport, sink = await pair()
    kinds = (SHORT, bytearray(SHORT), memoryview(SHORT), memoryview(bytearray(SHORT)), LONG)
    with sink:
        for _ in bursts(count):
            for data, _ in zip(itertools.cycle(kinds), range(BURST), strict=False):
                transport.sendto(data)
            await asyncio.sleep(0)
        transport.close()


@ending
async def received(count):
    """By a protocol, and answered."""
    class Echo(Silent):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.received += 1
            self.transport.sendto(data, addr)
            if changed is not None and not changed.done():
                changed.set_result(None)

    changed = None
    (near, _), (far, protocol) = await endpoint(), await endpoint(Echo)
    to = far.get_extra_info('sockname')
    for number in bursts(count):
        near.sendto_many([b'%d' % i for i in range(BURST)], to)
        while protocol.received < (number + 1) * BURST:
            changed = asyncio.get_running_loop().create_future()
            await changed
        changed = None
    near.close()
    far.close()


@ending
async def reported(count):
    """Zero-copy, the future awaited."""
    transport, sink = await pair()
    data = bytearray(5000)
    with sink:
        for _ in bursts(count):
            await asyncio.gather(*(transport.sendto_zerocopy(data) for _ in range(BURST)))
        transport.close()


@ending
async def in_trains(count):
    """Many by one call, with one future for them."""
    transport, sink = await pair()
    data = bytearray(1000 * BURST)
    view = memoryview(data)
    with sink:
        for number in bursts(count):
            if number % 3 == 0:
                await transport.sendto_zerocopy(data, segment_size=1000)
            elif number % 3 == 1:
                await transport.sendto_many_zerocopy(
                    [view[i:i + 1000] for i in range(0, len(data), 1000)])
            else:
                transport.sendto_many([SHORT] * BURST)
        transport.close()


@ending
async def with_messages(count):
    """Control messages, made once and made anew."""
    transport, sink = await pair()
    tos = [(socket.IPPROTO_IP, socket.IP_TOS, b'\1\0\0\0')]
    with sink:
        for _ in bursts(count):
            for number in range(BURST):
                if number % 2:
                    transport.sendmsg([b'a', bytearray(b'b')], tos)
                else:
                    transport.sendto_with(SHORT, ecn=number % 4)
            await asyncio.sleep(0)
        transport.close()


@ending
async def by_sock_calls(count):
    """``sock_sendto`` and its kind, done and cancelled."""
    loop = asyncio.get_running_loop()
    with udp() as sock, udp(room=1) as sink:
        to = sink.getsockname()
        for number in range(count):
            if number % 4 == 0:
                await loop.sock_sendto(sock, SHORT, to)
            elif number % 4 == 1:
                await loop.sock_sendto(sock, LONG, to)
            elif number % 4 == 2:
                await loop.sock_sendto_zerocopy(sock, bytearray(2000), to)
            else:
                loop.sock_sendto_zerocopy(sock, bytearray(2000), to).cancel()
                await asyncio.sleep(0)


# -- lent memory -----------------------------------------------------------------------------------

@ending
async def leased(count):
    """Released before and after the notification, and never."""
    transport, sink = await pair()
    pool = asyncio.get_running_loop().create_buffer_pool(BURST, 2000)
    with sink, warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        for number in range(count):
            lease = await pool.acquire()
            if number % 4 == 0:
                transport.sendto(lease[:1500])
                lease.release()
            elif number % 4 == 1:
                await transport.sendto_zerocopy(lease)
                lease.release()
            elif number % 4 == 2:
                transport.sendto_many([lease[:500], lease[500:1000]])
                lease.release()
            else:
                transport.sendto(lease)
                del lease               # it was not released
        lease = None
        await pool.close()
        transport.close()


@ending
async def registered(count):
    """Slices of registered memory; and memory that is registered while it is sent."""
    loop = asyncio.get_running_loop()
    transport, sink = await pair()
    memory = bytearray(40_000)
    view = memoryview(memory)
    with sink:
        for _ in bursts(count):
            async with loop.register_buffer(memory):
                await asyncio.gather(*(transport.sendto_zerocopy(view[i * 500:(i + 1) * 500])
                                       for i in range(BURST)))
        view.release()
        memory.append(0)                # nothing exports it any more
        transport.close()


# -- refused ---------------------------------------------------------------------------------------

@ending
async def refused_by_the_network(count):
    """ECONNREFUSED and EMSGSIZE: told to the protocol, or the future's."""
    transport, _ = await endpoint(remote_addr=deserted())
    long = bytes(65_508)
    for number in range(count):
        if number % 3 == 0:
            transport.sendto(SHORT)
        elif number % 3 == 1:
            transport.sendto(long)
        else:
            with contextlib.suppress(OSError):
                await transport.sendto_zerocopy(long)
    await asyncio.sleep(0)
    transport.close()


@ending
async def refused_at_the_call(count):
    """Addresses that are none, and data that is none."""
    transport, _ = await endpoint()
    lease = asyncio.get_running_loop().create_buffer_pool(1, 100).acquire_nowait()
    lease.release()
    calls = (
        lambda: transport.sendto_zerocopy(SHORT, ('127.0.0.1', -1)),
        lambda: transport.sendto_zerocopy(bytearray(10), 'nowhere'),
        lambda: transport.sendto_zerocopy(None, ('127.0.0.1', 9)),
        lambda: transport.sendto_zerocopy(lease, ('127.0.0.1', 9)),
        lambda: transport.sendto('text', ('127.0.0.1', 9)),
        lambda: transport.sendto_many([SHORT, bytearray(9), 'text'], ('127.0.0.1', 9)),
        lambda: transport.sendto_many([(SHORT, ('127.0.0.1', 9)), (SHORT,)]),
        lambda: transport.sendmsg([SHORT, None], [], 0, ('127.0.0.1', 9)),
        lambda: transport.sendmsg([SHORT], [(1, 2)], 0, ('127.0.0.1', 9)),
        lambda: transport.sendto_with(SHORT, ('127.0.0.1', 9), ecn=7),
        lambda: transport.sendto_many_zerocopy([SHORT, None], ('127.0.0.1', 9)).result(),
        lambda: transport.sendto_zerocopy(SHORT, ('127.0.0.1', 9), segment_size=-1),
    )
    for number, call in zip(range(count), itertools.cycle(calls), strict=False):
        with contextlib.suppress(TypeError, ValueError, OverflowError,
                                 asyncio.InvalidStateError):
            call()
        if number % BURST == 0:
            await asyncio.sleep(0)
    transport.close()


@ending
async def after_the_end(count):
    """On a transport that is closed."""
    transport, _ = await endpoint()
    transport.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    logger.disabled = True               # each is a warning
    for number in range(count):
        if number % 2:
            transport.sendto(SHORT, LOCAL)
        else:
            transport.sendto_zerocopy(bytearray(10), LOCAL).exception()
    logger.disabled = False


# -- cancelled, closed, aborted --------------------------------------------------------------------

@ending
async def cancelled(count):
    """The futures are."""
    transport, sink = await pair()
    data = bytearray(5000)
    with sink:
        for _ in bursts(count):
            futures = [transport.sendto_zerocopy(data) for _ in range(BURST)]
            for future in futures:
                future.cancel()
            await asyncio.wait(futures)
        transport.close()


def full_pair() -> tuple[socket.socket, socket.socket]:
    """Of AF_UNIX: what is not received has no room soon."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    # What asyncio takes for connected has a name.
    name = b'\0uringloop-leaks-%d' % id(far)
    far.bind(name)
    near.connect(name)
    return near, far


async def ended(count, end):
    """Of each transport some are waiting for room, some zero-copy, when it ends."""
    for _ in range(max(count // PER_TRANSPORT, 1)):
        near, far = full_pair()
        with far:
            transport, _ = await endpoint(sock=near)
            futures = [transport.sendto_zerocopy(bytearray(500)) for _ in range(10)]
            for number in range(PER_TRANSPORT - 10):
                transport.sendto(SHORT if number % 2 else bytearray(SHORT))
            getattr(transport, end)()
            for future in futures:
                future.cancel()
            await asyncio.sleep(0)
        # The peer is gone: nothing waits any more.
        del near, far
    await asyncio.sleep(0.01)


@ending
async def closed(count):
    """With sends waiting for room."""
    await ended(count, 'close')


@ending
async def aborted(count):
    """The same."""
    await ended(count, 'abort')


@ending
def loop_closed(count):
    """With sends in flight, waiting and deferred; futures that nobody has."""
    async def begin(sink):
        transport, _ = await endpoint(remote_addr=sink)
        near, far = full_pair()
        sockets.append(far)
        waiting, _ = await endpoint(sock=near)
        for number in range(PER_LOOP // 4):
            transport.sendto_zerocopy(bytearray(3000))
            transport.sendto(SHORT)
            waiting.sendto(LONG if number % 2 else bytearray(SHORT))
            futures.append(transport.sendto_zerocopy(LONG))

    for _ in range(max(count // PER_LOOP, 1)):
        futures: list = []
        sockets: list = []
        loop = quiet_loop()
        with udp(room=1) as sink, warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)       # transports that nobody closes
            loop.run_until_complete(begin(sink.getsockname()))
            loop.close()
            for future in futures:
                if future.done() and not future.cancelled():
                    future.exception()
            assert_no_leaks(loop)
            for sock in sockets:
                sock.close()
            # In this order: transports first, which warn.
            del loop
            futures.clear()


# -- callbacks that raise --------------------------------------------------------------------------

@ending
async def callbacks_raise(count):
    """``error_received``, ``datagram_received``, those of futures."""
    def fails(future):
        future.cancelled() or future.exception()
        raise ZeroDivisionError

    here, _ = await endpoint(Raises)
    refused, _ = await endpoint(Raises, remote_addr=deserted())
    to = here.get_extra_info('sockname')
    for _ in bursts(count):
        for number in range(BURST // 5):
            here.sendto(SHORT, to)
            here.sendto(LONG if number % 5 == 0 else SHORT, to)
            with contextlib.suppress(ZeroDivisionError):
                refused.sendto(SHORT)          # error_received may be called within
            here.sendto_zerocopy(bytearray(500), to).add_done_callback(fails)
            refused.sendto_zerocopy(bytearray(500)).add_done_callback(fails)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    here.close()
    refused.abort()


# -- streams ---------------------------------------------------------------------------------------

class Discards(asyncio.Protocol):
    got = 0

    def __init__(self):
        self.changed = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.got += len(data)
        self.changed.set()


@ending
async def written(count):
    """Streams: short and long pieces; every other one is aborted with some unsent."""
    loop = asyncio.get_running_loop()
    peers: list[Discards] = []

    def made():
        peers.append(Discards())
        return peers[-1]

    server = await loop.create_server(made, '127.0.0.1', 0)
    to = server.sockets[0].getsockname()
    long = bytes(100_000)
    for number in range(max(count // PER_TRANSPORT, 1)):
        transport, _ = await loop.create_connection(asyncio.Protocol, *to)
        for piece in range(PER_TRANSPORT):
            transport.write(SHORT if piece % 20 else long if piece % 40 else bytearray(SHORT))
        if number % 2:
            transport.abort()
        else:
            while not peers:
                await asyncio.sleep(0)
            while peers[0].got < 2 * len(long) + len(SHORT) * (PER_TRANSPORT - 3):
                peers[0].changed.clear()
                await peers[0].changed.wait()
            transport.close()
        for peer in peers:
            peer.transport.abort()
        peers.clear()
        await asyncio.sleep(0)
    server.close()
    await asyncio.sleep(0.01)
