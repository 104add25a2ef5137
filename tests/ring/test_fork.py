"""Forks: a ring that has run is the parent's alone; one that has not is anybody's."""
import textwrap

import pytest

from tests.support.cases import UringCase
from tests.support.programs import outcome, script
from tests.support.work import WORK

FORKED = WORK + '''
def child(function):
    """The exit code and output of ``function`` in a child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, str(function()).encode())
            os._exit(0)
        except BaseException as exc:
            os.write(writing, repr(exc).encode())
            os._exit(1)
    os.close(writing)
    with open(reading, 'rb') as end:
        said = end.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said

loop = uringloop.new_event_loop(require_uring=True)
'''


class TestNeverRun:
    """A loop made before fork() and never run is the child's as well as the parent's."""

    def test_both_run_it(self):
        assert script(FORKED + textwrap.dedent('''
            print(child(lambda: work_on(loop)))
            print(work_on(loop))
            print(child(lambda: work_on(loop))[1].split('(')[0])
            loop.close()
            ''')) == "(0, 'Loop')\nLoop\nRuntimeError\n"

    def test_woken_from_a_thread_and_by_a_signal(self):
        assert script(FORKED + textwrap.dedent('''
            import signal, threading
            signalled = loop.create_future()
            loop.add_signal_handler(signal.SIGUSR1, signalled.set_result, None)

            async def main():
                os.kill(os.getpid(), signal.SIGUSR1)
                await signalled
                woken = loop.create_future()
                threading.Timer(
                    0.05, loop.call_soon_threadsafe, [woken.set_result, 'woken']).start()
                return await woken

            print(child(lambda: loop.run_until_complete(asyncio.wait_for(main(), 10))))
            loop.close()
            ''')) == "(0, 'woken')\n"

    def test_a_child_without_descriptors_runs_it_once_it_has_some(self):
        """Nor is anything left where it has none to the end."""
        assert script(FORKED + textwrap.dedent('''
            import collections, errno, resource, signal

            def kinds():
                return collections.Counter(
                    os.readlink(f'/proc/self/fd/{fd}').rstrip('0123456789]')
                    for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}'))

            def run(left, again):
                before = kinds()
                limit = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (100, limit[1]))
                held = []
                try:
                    while True:
                        held.append(os.dup(0))
                except OSError:
                    pass
                for _ in range(left):
                    os.close(held.pop())
                try:
                    loop.call_soon(loop.stop)
                    loop.run_forever()
                    said = 'ran'
                except OSError as exc:
                    said = errno.errorcode[exc.errno]
                for fd in held:
                    os.close(fd)
                if again:
                    if said == 'ran':
                        loop.call_soon(int)
                    else:
                        loop.call_soon(loop.stop)
                        loop.run_forever()
                    heard.clear()
                    os.write(other, b'!')
                    signal.raise_signal(signal.SIGUSR1)
                    late = loop.call_later(10, loop.stop)
                    loop.run_forever()
                    late.cancel()
                    said += ', ' + ' and '.join(sorted(heard))
                loop.remove_reader(end)
                loop.remove_signal_handler(signal.SIGUSR1)
                loop.close()
                return said, not kinds() - before

            def hear(what):
                heard.add(what)
                if len(heard) == 2:
                    loop.stop()

            heard = set()
            end, other = os.pipe()
            loop.add_reader(end, lambda: (os.read(end, 1), hear('a reader')))
            loop.add_signal_handler(signal.SIGUSR1, hear, 'a signal')
            for again in False, True:
                print({child(lambda: run(left, again)) for left in range(4)},
                      child(lambda: run(5, again)))
            loop.remove_reader(end)
            loop.close()
            ''')) == (
            """{(0, "('EMFILE', True)")} (0, "('ran', True)")\n"""
            """{(0, "('EMFILE, a reader and a signal', True)")} """
            """(0, "('ran, a reader and a signal', True)")\n""")

    def test_watched_descriptors_are_watched_in_both(self):
        """Those of add_reader are watched in the child, and in the parent still."""
        assert script(FORKED + textwrap.dedent('''
            end, other = os.pipe()
            seen = loop.create_future()
            loop.add_reader(end, lambda: seen.done() or seen.set_result(os.read(end, 1)))

            def wait():
                os.write(other, b'!')
                return loop.run_until_complete(asyncio.wait_for(seen, 10))

            print(child(wait))
            print(wait())
            loop.remove_reader(end)
            loop.close()
            ''')) == "(0, \"b'!'\")\nb'!'\n"

    def test_what_the_child_watches_before_it_runs_is_watched(self):
        assert script(FORKED + textwrap.dedent('''
            end, other = os.pipe()
            loop.add_reader(end, print)

            def wait():
                seen = loop.create_future()
                loop.add_reader(end, lambda: seen.done() or seen.set_result(os.read(end, 1)))
                os.write(other, b'!')
                return loop.run_until_complete(asyncio.wait_for(seen, 10))

            print(child(wait))
            loop.remove_reader(end)
            print(child(wait))
            loop.close()
            ''')) == "(0, \"b'!'\")\n" * 2

    def test_closed_in_the_child_runs_in_the_parent(self):
        assert script(FORKED + textwrap.dedent('''
            print(child(loop.close))
            print(work_on(loop))
            loop.close()
            ''')) == "(0, 'None')\nLoop\n"

    def test_the_child_keeps_no_descriptor(self):
        """The child has none of the parent's ring's, nor any left once it has closed its own."""
        assert script(FORKED + textwrap.dedent('''
            def descriptors():
                return len(os.listdir('/proc/self/fd'))

            loop.close()
            before = descriptors()
            loop = uringloop.new_event_loop(require_uring=True)

            def count():
                work_on(loop)
                loop.close()
                return descriptors() - before

            print(child(count))
            loop.close()
            ''')) == "(0, '2')\n"       # the two of the pipe by which it tells


FORK = '''
    import asyncio, gc, os, socket
    import uringloop
    from tests.support.cases import assert_no_leaks
    from tests.support.protocols import endpoint
    from tests.support.turns import settle

    async def echo_to_oneself(size=20_000):
        transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
        transport.sendto(bytes(size), transport.get_extra_info('sockname'))
        await asyncio.wait_for(protocol.until(lambda p: p.datagrams), 10)
        return transport, protocol

    def must_name_fork(call, *args):
        try:
            call(*args)
        except RuntimeError as exc:
            assert 'fork' in str(exc), exc
        else:
            os._exit(3)

    def new_loop_works():
        loop = uringloop.new_event_loop(require_uring=True)
        transport, _ = loop.run_until_complete(echo_to_oneself())
        transport.abort()
        loop.run_until_complete(settle())
        loop.close()
        assert_no_leaks(loop)

    loop = uringloop.new_event_loop(require_uring=True)
'''


def test_the_child_has_a_loop_of_its_own():
    """The child cannot use the loop, can have one of its own, and does not keep the port."""
    assert outcome(FORK + '''
    transport, protocol = loop.run_until_complete(echo_to_oneself())
    address = transport.get_extra_info('sockname')
    transport.sendto(b'in flight', address)
    future = transport.sendto_zerocopy(bytearray(20_000), address)
    told, tell = os.pipe()
    end, finish = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(finish)
        must_name_fork(loop.run_forever)
        transport.sendto(b'from the child', address)      # its ring is not needed for that
        os.close(transport.get_extra_info('socket').fileno())
        new_loop_works()
        loop.close()
        os.write(tell, b'!')
        os.read(end, 1)
        os._exit(0)
    os.close(tell)
    assert os.read(told, 1) == b'!', 'the child has died'
    loop.run_until_complete(asyncio.wait_for(protocol.until(lambda p: len(p.datagrams) == 4), 10))
    assert protocol.datagrams[1:] == [b'in flight', bytes(20_000), b'from the child']
    assert loop.run_until_complete(future) == (20_000, True)
    transport.close()
    loop.run_until_complete(asyncio.wait_for(protocol.until(lambda p: p.lost), 10))
    loop.close()
    assert_no_leaks(loop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
    os.close(finish)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ''') == (0, '')


def test_a_child_of_a_coroutine_has_a_loop_of_its_own():
    assert outcome(FORK + '''
    async def main():
        transport, protocol = await echo_to_oneself()
        child = os.fork()
        if child == 0:
            # Tasks of Python 3.14 say that the loop, in the child, is not the running one.
            loop.set_exception_handler(lambda loop, context: None)
            return None
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        transport.sendto(b'still here', transport.get_extra_info('sockname'))
        await asyncio.wait_for(protocol.until(lambda p: len(p.datagrams) == 2), 10)
        transport.close()
        await asyncio.wait_for(protocol.until(lambda p: p.lost), 10)
        return 'parent'

    parent = os.getpid()
    try:
        assert loop.run_until_complete(main()) == 'parent'
    except RuntimeError as exc:
        assert os.getpid() != parent
        assert 'fork' in str(exc)
        new_loop_works()
        os._exit(0)
    if os.getpid() != parent:
        new_loop_works()
        os._exit(0)
    loop.close()
    assert_no_leaks(loop)
    ''') == (0, '')


def test_the_exit_of_a_child_harms_nothing():
    """A child that leaves by ``sys.exit`` tears its copies down, and harms nothing."""
    assert outcome(FORK + '''
    import sys
    transport, protocol = loop.run_until_complete(echo_to_oneself())
    child = os.fork()
    if child == 0:
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    transport.sendto(b'still here', transport.get_extra_info('sockname'))
    loop.run_until_complete(asyncio.wait_for(protocol.until(lambda p: len(p.datagrams) == 2), 10))
    transport.abort()
    loop.run_until_complete(settle())
    loop.close()
    ''') == (0, '')


FORKS_IN_A_CALLBACK = """
    import asyncio, ctypes, os, socket, sys
    import uringloop

    fork = {fork}
    size = {size}
    children = []

    class Protocol(asyncio.DatagramProtocol):
        received = 0

        def datagram_received(self, data, address):
            self.received += 1
            if self.received == 4:
                pid = fork()
                if pid == 0:
                    self.in_child = True
                else:
                    children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            Protocol, local_addr=('127.0.0.1', 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            while protocol.received < 8:
                peer.sendto(bytes(size), transport.get_extra_info('sockname'))
                await asyncio.sleep(0)
        transport.close()

    loop = uringloop.new_event_loop(require_uring=True, busy_poll={busy_poll})
    try:
        loop.run_until_complete(main())
    except RuntimeError as error:
        assert 'fork' in str(error), error
        os._exit(3)
    loop.close()
    print(children)
    """


class TestWithinACallback(UringCase):
    """The child comes back into the loop, whose ring is not even mapped there."""

    @pytest.mark.parametrize('size', [10, 60000])
    @pytest.mark.parametrize('busy_poll', [0, 50])
    @pytest.mark.parametrize('fork', ['os.fork', 'ctypes.PyDLL(None).fork'])
    def test_the_child_is_told(self, fork, busy_poll, size):
        assert script(textwrap.dedent(FORKS_IN_A_CALLBACK.format(
            fork=fork, busy_poll=busy_poll, size=size))) == '[3]\n'


class TestWithinASignalHandler(UringCase):

    @pytest.mark.parametrize('busy_poll', [0, 50])
    def test_the_child_is_told(self, busy_poll):
        """The handler runs while the loop waits: behind it the ring's memory is not there."""
        assert script(f"""
            import asyncio, os, signal
            import uringloop

            children = []

            def handler(number, frame):
                pid = os.fork()
                if pid:
                    children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

            async def main():
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                while not children:
                    await asyncio.sleep(0.05)

            signal.signal(signal.SIGALRM, handler)
            loop = uringloop.new_event_loop(require_uring=True, busy_poll={busy_poll})
            try:
                loop.run_until_complete(main())
            except RuntimeError as error:
                assert 'fork' in str(error), error
                os._exit(3)
            loop.close()
            print(children)
            """) == '[3]\n'


class TestWakeUps(UringCase):

    def test_wakes_nobody_in_the_child(self):
        """There the numbers of the loop's own descriptors may be somebody else's."""
        assert outcome('''
            import os, socket, threading
            import uringloop

            loop = uringloop.new_event_loop(require_uring=True)
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            running = threading.Event()
            loop.call_soon_threadsafe(running.set)
            running.wait()
            child = os.fork()
            if child == 0:
                pairs = [socket.socketpair() for _ in range(6)]
                try:
                    loop.call_soon_threadsafe(print, 'x')
                except RuntimeError:
                    pass
                for sock in sum(pairs, ()):
                    sock.setblocking(False)
                    try:
                        sock.recv(10)
                    except BlockingIOError:
                        continue
                    os._exit(3)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            os._exit(status)
        ''', '-W', 'ignore', timeout=20)[0] == 0
