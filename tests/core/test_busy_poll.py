"""The moment for which the loop looks for something to do before it sleeps."""
import asyncio
import os
import signal
import socket
import threading
import time

import uringloop
from tests.support.cases import UringCase
from tests.support.features import needs_feature


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

    @needs_feature('taskrun_flag')
    def test_answers_are_caught(self):
        stats = self.run(self.ask(lambda stats: stats.busy_poll_hits))
        assert 0 < stats.busy_poll_hits <= stats.busy_polls

    @needs_feature('taskrun_flag')
    def test_a_loop_that_waits_long_gives_up(self):
        async def main():
            for _ in range(100):
                await asyncio.sleep(0.002)
            return self.loop.stats()

        stats = self.run(main())
        assert stats.busy_poll_hits == 0
        # The luck it begins with, and two tries every 32 waits.
        assert 0 < stats.busy_polls <= 20

    async def listen(self, *, answer):
        """200 datagrams, each sent when the one before it was received: looks per datagram."""
        class Listener(asyncio.DatagramProtocol):
            count = 0

            def datagram_received(self, data, addr):
                self.count += 1
                if self.count == 100:
                    self.looks = loop.stats().busy_polls
                if self.count == 200:
                    done.set_result(loop.stats().busy_polls - self.looks)
                if answer:
                    transport.sendto(data, (addr[0], silent.getsockname()[1]))
                go_on.release()

        def send():
            for _ in range(200):
                go_on.acquire()
                time.sleep(0.0001)       # so that the loop has nothing to do
                peer.sendto(b'x', transport.get_extra_info('sockname'))

        loop, go_on = self.loop, threading.Semaphore(1)
        done = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            Listener, local_addr=('127.0.0.1', 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(('127.0.0.1', 0))
            thread = threading.Thread(target=send)
            thread.start()
            try:
                return await done
            finally:
                thread.join(self.timeout)
                transport.close()

    @needs_feature('taskrun_flag')
    def test_who_only_listens_does_not_look(self):
        assert self.run(self.listen(answer=False)) <= 3
        assert self.run(self.listen(answer=True)) > 3

    def test_no_looking_where_a_timer_is_due_sooner(self):
        async def main():
            for _ in range(20):
                await asyncio.sleep(0.0005)
            return self.loop.stats()

        # The task's own waits are too short to look first; its time-out's is not one of them.
        assert self.run(main()).busy_polls == 0

    def test_looking_does_not_delay_a_timer(self):
        async def main():
            took = []
            for _ in range(20):
                start = self.loop.time()
                await asyncio.sleep(0.0012)
                took.append(self.loop.time() - start)
            return min(took)

        assert 0.0012 <= self.run(main()) < 0.0021

    def test_what_a_handler_completes_after_looking_is_seen(self, monkeypatch):
        """What it makes the kernel complete is seen before the loop sleeps."""
        async def main():
            reading, writing = os.pipe()
            done = self.loop.create_future()
            self.loop.add_reader(reading, done.set_result, None)
            one, two = socket.socketpair()
            one.setblocking(False)
            transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=one)

            def handler(*_):
                os.write(writing, b'!')
                transport.close()       # enters the kernel

            before = signal.signal(signal.SIGALRM, handler)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                await asyncio.sleep(0.1)
                await done
            finally:
                signal.signal(signal.SIGALRM, before)
                self.loop.remove_reader(reading)
                for fd in (reading, writing):
                    os.close(fd)
                two.close()

        self.loop.close()
        monkeypatch.setattr(uringloop.loop, 'check_options', lambda *options: None)
        # So that the signal comes while it looks.
        self.loop = uringloop.new_event_loop(require_uring=True, busy_poll=500_000)
        self.run(main())


class TestSwitchedOff(_BusyPoll):
    busy_poll = 0

    def test_it_never_looks(self):
        assert self.run(self.ask(lambda stats: stats.syscalls > 200)).busy_polls == 0
