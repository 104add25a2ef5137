"""The moment for which the loop looks for something to do before it sleeps."""
import asyncio
import socket
import threading

import uringloop
from tests.cases import UringCase


class _BusyPoll(UringCase):
    busy_poll = 50

    def new_loop(self):
        return uringloop.new_event_loop(require_uring=True, busy_poll=self.busy_poll)

    async def ask(self, enough):
        """Have a thread answer datagrams until ``enough(stats)``, or 2,000 of them."""
        def answer():
            while data := peer.recv(100):
                peer.sendto(data, sock.getsockname())

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for each in (sock, peer):
                each.bind(('127.0.0.1', 0))
            sock.setblocking(False)
            thread = threading.Thread(target=answer)
            thread.start()
            try:
                for n in range(2000):
                    await self.loop.sock_sendto(sock, b'%d' % n, peer.getsockname())
                    assert await self.loop.sock_recv(sock, 100) == b'%d' % n
                    if enough(self.loop.stats()):
                        break
            finally:
                await self.loop.sock_sendto(sock, b'', peer.getsockname())
                thread.join(self.timeout)
        return self.loop.stats()


class TestBusyPoll(_BusyPoll):
    timeout = 20.0
    busy_poll = 1000

    def test_answers_are_caught(self):
        stats = self.run(self.ask(lambda stats: stats.busy_poll_hits))
        assert 0 < stats.busy_poll_hits <= stats.busy_polls

    def test_a_loop_that_waits_long_gives_up(self):
        async def main():
            for _ in range(100):
                await asyncio.sleep(0.002)
            return self.loop.stats()

        stats = self.run(main())
        assert stats.busy_poll_hits == 0
        # The luck it begins with, and two tries every 32 waits.
        assert 0 < stats.busy_polls <= 20

    def test_a_timer_that_is_due_sooner(self):
        async def main():
            for _ in range(20):
                await asyncio.sleep(0.0005)
            return self.loop.stats()

        # The task's own waits are too short to look first; its time-out's is not one of them.
        assert self.run(main()).busy_polls == 0


class TestWithout(_BusyPoll):
    busy_poll = 0

    def test_it_never_looks(self):
        assert self.run(self.ask(lambda stats: stats.syscalls > 200)).busy_polls == 0
