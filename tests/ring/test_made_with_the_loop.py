"""A loop's ring is made with it: by whom it is run, and what withholds or takes it away."""
import asyncio
import errno
import gc
import os
import resource
import textwrap

import pytest

import uringloop
from tests.support.cases import UringCase
from tests.support.namespaces import needs_root
from tests.support.process import descriptors, in_thread
from tests.support.programs import script
from tests.support.seccomp import FORBID
from tests.support.sockets import udp
from tests.support.work import WORK
from uringloop.ring import ring as ring_module


class TestMadeWithTheLoop(UringCase):

    def test_the_first_to_run_it_makes_no_other(self):
        """The ring is the one that was made with the loop, whoever runs it first."""
        rings = set(ring_module.open_rings)
        in_thread(lambda: self.run(asyncio.sleep(0)))
        assert set(ring_module.open_rings) == rings

    def test_loops_that_never_run_leave_nothing(self):
        """Closed, or dropped, or driven by hand: nothing is left."""
        self.loop.close()
        gc.collect()
        before = descriptors()
        for _ in range(50):
            uringloop.Loop().close()
        in_thread(uringloop.Loop).close()
        loop = uringloop.Loop()
        in_thread(loop.close)
        assert descriptors() == before

    def test_calls_that_need_the_ring_say_that_it_is_not_running(self):
        """As from a loop that has run: what needs the ring says so."""
        with udp() as sock:
            waiting = self.loop.sock_recv(sock, 10)
            with pytest.raises(RuntimeError, match='not running'):
                waiting.send(None)

    @pytest.mark.parametrize('call', [425, 426, 427])
    def test_each_loop_finds_out(self, call):
        """What was possible once may be forbidden by now; the earlier loop goes on working."""
        assert script(FORBID + WORK + textwrap.dedent(f'''
            loop = uringloop.new_event_loop(require_uring=True)
            started = uringloop.new_event_loop(require_uring=True)
            started.run_until_complete(asyncio.sleep(0))
            before = sorted(os.listdir('/proc/self/fd'))
            forbid_io_uring(1, {call})
            try:
                uringloop.Loop()
            except uringloop.UringUnavailableError as error:
                assert error.errno == 1 and 'allow io_uring_setup' in str(error), error
            else:
                print('a loop was made')
            assert sorted(os.listdir('/proc/self/fd')) == before
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                for _ in range(2):
                    other = uringloop.new_event_loop()
                    print(work_on(other))
                    other.close()
            print(*[warning.category.__name__ for warning in caught])
            if {call} == 425:
                print(work_on(loop), work_on(started))
            loop.close()
            started.close()
            ''')).splitlines() == [
                'CopyingLoop', 'CopyingLoop', 'RuntimeWarning',
                *(['Loop Loop'] if call == 425 else [])]

    def test_another_ring_cannot_be_had(self):
        """A loop that has run, and now runs in another thread: one error says why it cannot."""
        assert script(FORBID + WORK + textwrap.dedent('''
            import threading
            loop = uringloop.new_event_loop(require_uring=True)
            loop.run_until_complete(asyncio.sleep(0))
            forbid_io_uring(1)

            def other():
                coroutine = work()
                try:
                    loop.run_until_complete(coroutine)
                except uringloop.UringUnavailableError as error:
                    print(error.errno, 'io_uring is not available (EPERM' in str(error),
                          'seccomp' in str(error))
                coroutine.close()

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            loop.close()
            '''), '-W', 'ignore') == '1 True True\n'

    @pytest.mark.parametrize('error', [1, 13, 38])
    @pytest.mark.parametrize('started', [False, True])
    def test_a_later_policy_is_one_clear_error(self, started, error):
        """A policy that came after the loop: one clear error, and it closes without a trace."""
        assert script(FORBID + WORK + textwrap.dedent(f'''
            before = sorted(os.listdir('/proc/self/fd'))
            loop = uringloop.new_event_loop(require_uring=True)
            loop.set_exception_handler(lambda loop, context: None)
            if {started}:
                work_on(loop)
            forbid_io_uring({error}, 426)
            try:
                loop.run_until_complete(asyncio.sleep(10))
            except uringloop.UringUnavailableError as problem:
                assert problem.errno == {error}
                print('no longer available' in str(problem), 'after the loop' in str(problem))
            loop.close()
            assert sorted(os.listdir('/proc/self/fd')) == before
            '''), '-W', 'ignore') == 'True True\n'

    @needs_root
    def test_runs_on_when_privileges_are_given_up(self):
        assert script(WORK + textwrap.dedent('''
            loops = [uringloop.new_event_loop(require_uring=True) for _ in range(2)]
            loops[0].run_until_complete(asyncio.sleep(0))
            become(60_000, 0)
            print(*[work_on(loop) for loop in loops])
            for loop in loops:
                loop.close()
            ''')) == 'Loop Loop\n'

    @needs_root
    def test_no_locked_memory_is_left_once_it_is_made(self):
        """Used up by the time that the first socket receives: that takes none."""
        assert script(WORK + textwrap.dedent('''
            import resource
            become(60_000, 8 << 20)
            loop = uringloop.new_event_loop(require_uring=True)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 8 << 20))
            print(work_on(loop), work_on(loop))
            loop.close()
            ''')) == 'Loop Loop\n'

    @needs_root
    @pytest.mark.parametrize('kib', [16, 64, 72])
    def test_little_locked_memory(self, kib):
        """Rings that are never run give it back, too."""
        assert script(WORK + textwrap.dedent(f'''
            become(60_000, {kib} << 10)
            for i in range(60):
                loop = uringloop.new_event_loop(require_uring=True)
                if i % 15 == 0:
                    print(work_on(loop))
                loop.close()
            '''), '-W', 'error') == 'Loop\n' * 4

    @needs_root
    def test_locked_memory_that_others_have_is_waited_for_once(self):
        """Half a second for each loop that is made would be too much."""
        waited, then, again = map(int, script(WORK + textwrap.dedent('''
            import time, warnings
            warnings.simplefilter('ignore')
            become(60_000, 64 << 10)
            naps = []
            time.sleep = naps.append
            loops = []

            def make():
                naps.clear()
                loops.append(uringloop.new_event_loop())
                return len(naps)

            waited = make()
            while type(loops[-1]) is uringloop.Loop:
                waited = make()
            print(waited, make(), make())
            for loop in loops:
                loop.close()
            ''')).split())
        assert waited
        assert then == again == 0


class TestWithoutDescriptors(UringCase):

    def test_no_loop_is_made_and_nothing_is_left(self):
        """No loop can then be made, and nothing is left of it; one that was made can run."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with udp() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 10, limits[1]))
            held = []
            try:
                with pytest.raises(OSError, match='open files'):
                    while True:
                        held.append(os.dup(0))
                for _ in range(3):           # for the epoll and the wake-up sockets
                    os.close(held.pop())
                for wanted in ('eventfd', 'io_uring'):
                    for _ in range(3):
                        with pytest.raises(uringloop.UringUnavailableError, match=wanted) as caught:
                            uringloop.new_event_loop(require_uring=True)
                        assert caught.value.errno == errno.EMFILE
                    os.close(held.pop())
                held += [os.dup(0) for _ in range(5)]
                assert self.loop.run_until_complete(asyncio.sleep(0, 'ran')) == 'ran'
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for fd in held:
                    os.close(fd)
