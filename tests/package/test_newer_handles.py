"""Handles of ``call_soon_threadsafe``, which since Python 3.14 wait for a callback that runs."""
import threading
from asyncio import events

import pytest

import uringloop
from tests.support.cases import both_sides
from tests.support.versions import since_314


class _TestThreadSafeHandles:

    def start(self, callback):
        """Run the loop in a thread of its own until ``callback`` has run there."""
        handle = self.loop.call_soon_threadsafe(callback)
        self.loop.call_soon(self.loop.stop)
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        return handle, thread

    @since_314
    @pytest.mark.parametrize('debug', [False, True])
    @pytest.mark.parametrize('wait', ['cancel', 'cancelled'])
    def test_waits_for_a_callback_that_runs(self, wait, debug):
        self.loop.set_debug(debug)
        begun, end, order = threading.Event(), threading.Event(), []

        def callback():
            begun.set()
            end.wait(5)
            order.append('ran')

        handle, thread = self.start(callback)
        begun.wait(5)
        others = [threading.Thread(target=lambda: (getattr(handle, wait)(), order.append('told')))
                  for _ in range(3)]
        for other in others:
            other.start()
        others[0].join(0.05)
        assert others[0].is_alive()
        end.set()
        for waiting in (*others, thread):
            waiting.join(5)
        assert order == ['ran', 'told', 'told', 'told']

    @since_314
    def test_is_of_asyncios_class(self):
        handle = self.loop.call_soon_threadsafe(print)
        assert isinstance(handle, events._ThreadSafeHandle)
        assert handle.__class__ is events._ThreadSafeHandle
        handle.cancel()
        assert handle.cancelled()
        assert 'cancelled' in repr(handle)

    def test_cancelled_in_time_does_not_run(self):
        ran = []
        handle = self.loop.call_soon_threadsafe(ran.append, 1)
        handle.cancel()
        self.loop.call_soon_threadsafe(ran.append, 2)
        self.turns()
        assert ran == [2]
        assert handle.cancelled()

    def test_cancels_itself(self):
        cancelled = []

        def callback():
            handle.cancel()
            cancelled.append(handle.cancelled())

        handle = self.loop.call_soon_threadsafe(callback)
        self.turns()
        assert cancelled == [True]

    def test_an_error_in_it_is_told_and_it_is_free_again(self):
        handle = self.loop.call_soon_threadsafe(lambda: 1 / 0)
        self.turns()
        [context] = self.problems
        assert isinstance(context['exception'], ZeroDivisionError)
        assert context['handle'] is handle
        thread = threading.Thread(target=handle.cancel)
        thread.start()
        thread.join(5)
        assert handle.cancelled()

    def test_an_interrupt_comes_out_and_it_is_free_again(self):
        def interrupt():
            raise KeyboardInterrupt

        handle = self.loop.call_soon_threadsafe(interrupt)
        with pytest.raises(KeyboardInterrupt):
            self.turns()
        thread = threading.Thread(target=handle.cancel)
        thread.start()
        thread.join(5)
        assert handle.cancelled()

    def test_a_patched_run_is_called(self, monkeypatch):
        ran, original = [], events.Handle._run

        def _run(handle):
            ran.append(handle._callback)
            original(handle)

        monkeypatch.setattr(events.Handle, '_run', _run)
        self.loop.call_soon_threadsafe(ran.append, 'called')
        self.turns()
        assert ran[:2] == [ran.append, 'called']


@since_314
def test_handles_are_native():
    loop = uringloop.new_event_loop(require_uring=True)
    try:
        handle = loop.call_soon_threadsafe(print)
        assert type(handle).__module__ == 'uringloop.core.handles'
        handle.cancel()
    finally:
        loop.close()


both_sides(globals(), _TestThreadSafeHandles)
