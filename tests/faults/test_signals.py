"""A thousand signals a second while the loop sends, receives and waits: nothing is lost."""
import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

import uringloop
from tests.support.cases import UringCase
from tests.support.load import Load, numbers_of, still_alive
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, udp
from tests.support.streams import MANY_BYTES, Echo, Streams
from tests.support.turns import turns

SIGNALS = 300
INTERVAL = 0.001

# Sends signals until it is killed, or the other process is gone.
SENDER = '''
import os, signal, sys, time
while True:
    os.kill(int(sys.argv[1]), signal.SIGUSR1)
    time.sleep(float(sys.argv[2]))
'''


class Timer:
    number = signal.SIGALRM

    def start(self):
        signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)

    def stop(self):
        signal.setitimer(signal.ITIMER_REAL, 0)


class Process:
    number = signal.SIGUSR1

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, '-c', SENDER, str(os.getpid()), str(INTERVAL)])

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize('busy_poll', [0, 50])
@pytest.mark.parametrize('source', [Timer, Process])
@pytest.mark.parametrize('how', ['signal', 'add_signal_handler'])
class TestManySignals(Streams, UringCase):

    timeout = 30.0

    @pytest.fixture(autouse=True)
    def _busy_poll(self, _fresh_loop, busy_poll):
        self.loop.close()
        self.loop = uringloop.new_event_loop(require_uring=True, busy_poll=busy_poll)
        self.loop.set_exception_handler(lambda loop, context: self.problems.append(context))

    def test_nothing_is_lost(self, how, source):
        seen = 0

        def handler(*args):
            nonlocal seen
            seen += 1

        async def main():
            work = asyncio.gather(self.datagrams(), self.streams(), self.timers(), self.threads(),
                                  self.sock_calls(), self.children())
            while not work.done() or seen < SIGNALS:
                if work.done():
                    await still_alive()
                else:
                    await asyncio.sleep(0.001)
            await work

        number, signals = source.number, source()
        before = signal.getsignal(number)
        if how == 'signal':
            signal.signal(number, handler)
        else:
            self.loop.add_signal_handler(number, handler)
        signals.start()
        try:
            self.run(main())
        finally:
            signals.stop()               # before there is no handler
            self.turns(2)
            if how == 'add_signal_handler':
                self.loop.remove_signal_handler(number)
            signal.signal(number, before)
        assert not self.problems

    async def datagrams(self):
        receiver, received = await endpoint(sock=udp(room=4 << 20))
        transport, protocol = await endpoint(sock=udp())
        load = Load(transport, protocol, receiver.get_extra_info('sockname'))
        for _ in range(50):
            load.round()
            await asyncio.sleep(0)
            await load.settled()
            await received.until(lambda p: len(p.datagrams) == load.handed)
        assert load.dropped() == 0
        assert len(numbers_of(received.datagrams)) == load.handed
        await load.close()
        receiver.close()

    async def streams(self):
        _, address = await self.serve(Echo)
        client = await self.connect(address)
        client.transport.write(MANY_BYTES)
        await client.until_length(len(MANY_BYTES))
        assert client.data == MANY_BYTES

    async def timers(self):
        for count in range(200):
            begin = self.loop.time()
            await asyncio.sleep(0.0005 * (count % 3))
            assert self.loop.time() >= begin + 0.0005 * (count % 3)

    async def threads(self):
        def call():
            for number in range(1000):
                self.loop.call_soon_threadsafe(told.append, number)
            self.loop.call_soon_threadsafe(done.set_result, None)

        told, done = [], self.loop.create_future()
        thread = threading.Thread(target=call)
        thread.start()
        await done
        thread.join()
        assert told == list(range(1000))

    async def sock_calls(self):
        with udp(LOCAL) as one, udp(LOCAL) as two:
            for number in range(200):
                waiting = asyncio.ensure_future(self.loop.sock_recvfrom(two, 100))
                await asyncio.sleep(0)
                await self.loop.sock_sendto(one, b'%d' % number, two.getsockname())
                assert await waiting == (b'%d' % number, one.getsockname())

    async def children(self):
        for code in range(3):
            process = await asyncio.create_subprocess_exec(
                'sh', '-c', f'cat; exit {code}', stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE)
            data = MANY_BYTES[:100_000]
            assert (await process.communicate(data))[0] == data
            assert process.returncode == code
        await turns()
