"""What a program does with a loop, as source for interpreters of its own."""


# What a program does with a loop: datagrams long and short, AF_UNIX ones, streams.
WORK = '''
import asyncio, os, socket, sys, warnings
import uringloop
from tests.support.protocols import Recorder, endpoint

async def work():
    loop = asyncio.get_running_loop()
    receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
    sender, _ = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
    for size in (100, 9000, 60_000, 60_000, 60_000, 60_000, 60_000, 1, 100):
        received.datagrams.clear()
        sender.sendto(bytes(size))
        await received.until(lambda p: p.datagrams == [bytes(size)])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    ours.bind(b'\\0ring-%d' % os.getpid())
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    local, heard = await endpoint(sock=ours)
    for size in (10, 90_000):
        heard.datagrams.clear()
        theirs.send(bytes(size))
        await heard.until(lambda p: p.datagrams == [bytes(size)])

    async def echo(reader, writer):
        writer.write(await reader.readexactly(300_000))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, '127.0.0.1', 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    data = os.urandom(300_000)
    writer.write(data)
    assert await reader.read(-1) == data
    writer.close()
    server.close()
    for transport in (receiver, sender, local):
        transport.close()
    theirs.close()
    return type(loop).__name__

def work_on(loop):
    return loop.run_until_complete(asyncio.wait_for(work(), 20))

def become(user, locked):
    """Give up privileges and locked memory."""
    import resource
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (locked, locked))
    os.setgroups([])
    os.setgid(65534)
    os.setuid(user + os.getpid() % 5000)
'''
