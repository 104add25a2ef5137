"""Callbacks: their order, arguments, contexts and exceptions, and how they are cancelled."""
import asyncio
import contextvars
import gc
import sys
import weakref

import pytest

from tests.support.cases import both_sides

variable = contextvars.ContextVar('variable', default='unset')


class _TestCallbacks:

    def test_run_in_order_with_their_arguments(self):
        seen = []
        for n in range(1000):
            self.loop.call_soon(lambda *args: seen.append(args), n, 'x' * (n % 3))
        self.loop.call_soon(self.loop.stop)
        self.forever()
        assert seen == [(n, 'x' * (n % 3)) for n in range(1000)]

    @pytest.mark.parametrize('count', [0, 1, 2, 7])
    def test_take_any_number_of_arguments(self, count):
        seen = []
        self.loop.call_soon(lambda *args: seen.append(args), *range(count))
        self.turns()
        assert seen == [tuple(range(count))]

    def test_callbacks_of_callbacks_run_in_the_next_turn(self):
        seen = []

        def first():
            seen.append('first')
            self.loop.call_soon(seen.append, 'third')

        self.loop.call_soon(first)
        self.loop.call_soon(seen.append, 'second')
        self.turns()
        assert seen == ['first', 'second']
        self.turns()
        assert seen == ['first', 'second', 'third']

    def test_a_cancelled_one_does_not_run(self):
        seen = []
        handle = self.loop.call_soon(seen.append, 1)
        later = self.loop.call_soon(seen.append, 2)
        assert not handle.cancelled()
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()
        self.turns()
        assert seen == [2]
        later.cancel()          # after it has run: harmless
        assert later.cancelled()

    def test_cancelled_by_an_earlier_one_of_the_same_turn(self):
        def cancel():
            handle.cancel()

        seen = []
        self.loop.call_soon(cancel)
        handle = self.loop.call_soon(seen.append, 'never')
        self.turns(2)
        assert seen == []

    def test_a_cancelled_handle_lets_go_of_its_arguments(self):
        class Thing:
            pass

        gone = []
        thing = Thing()
        weakref.finalize(thing, gone.append, True)
        handle = self.loop.call_soon(print, thing)
        del thing
        handle.cancel()
        gc.collect()
        assert gone == [True]
        self.turns()

    def test_run_in_the_context_given_or_current(self):
        seen = []
        context = contextvars.copy_context()
        context.run(variable.set, 'given')
        token = variable.set('current')
        try:
            self.loop.call_soon(lambda: seen.append(variable.get()), context=context)
            self.loop.call_soon(lambda: seen.append(variable.get()))
            self.loop.call_later(0, lambda: seen.append(variable.get()), context=context)
            self.loop.call_soon_threadsafe(lambda: seen.append(variable.get()), context=context)
        finally:
            variable.reset(token)
        self.loop.call_later(0.001, self.loop.stop)
        self.forever()
        assert sorted(seen) == ['current', 'given', 'given', 'given']
        assert seen[0] == 'given'

    def test_a_callback_changes_its_own_context_only(self):
        seen = []
        self.loop.call_soon(variable.set, 'mine')
        self.loop.call_soon(lambda: seen.append(variable.get()))
        self.turns()
        assert seen == ['unset']

    def test_a_handle_tells_its_context(self):
        if sys.version_info < (3, 12):
            handle = self.loop.call_soon(print)
            handle.cancel()
            assert handle.cancelled()
            return
        context = contextvars.copy_context()
        handle = self.loop.call_soon(print, context=context)
        assert handle.get_context() is context
        handle.cancel()

    def test_repr_names_the_callback_until_cancelled(self):
        def callback_name():
            raise AssertionError('cancelled')

        handle = self.loop.call_soon(callback_name, 42)
        assert repr(handle).startswith('<Handle ')
        assert 'callback_name(' in repr(handle)
        handle.cancel()
        assert repr(handle) == '<Handle cancelled>'
        timer = self.loop.call_later(1000, callback_name)
        assert repr(timer).startswith('<TimerHandle when=')
        assert 'callback_name(' in repr(timer)
        timer.cancel()
        assert 'cancelled' in repr(timer)

    def test_what_is_not_callable_is_reported(self):
        self.loop.call_soon(None)
        self.turns()
        [context] = self.problems
        assert isinstance(context['exception'], TypeError)

    def test_what_is_not_callable_is_refused_in_debug_mode(self):
        async def coroutine():
            pass

        self.loop.set_debug(True)
        for method in (self.loop.call_soon, self.loop.call_soon_threadsafe,
                       lambda what: self.loop.call_later(1, what),
                       lambda what: self.loop.call_at(1, what)):
            with pytest.raises(TypeError, match='a callable object was expected'):
                method(None)
            with pytest.raises(TypeError, match='coroutines cannot be used'):
                method(coroutine)
            made = coroutine()
            with pytest.raises(TypeError, match='coroutines cannot be used'):
                method(made)
            made.close()

    def test_an_exception_is_reported_and_the_rest_runs(self):
        seen = []

        def broken():
            raise ZeroDivisionError('in a callback')

        handle = self.loop.call_soon(broken)
        self.loop.call_soon(seen.append, 'after')
        timer = self.loop.call_later(0, broken)
        self.loop.call_later(0.001, self.loop.stop)
        self.forever()
        assert seen == ['after']
        first, second = self.problems
        assert first['handle'] is handle
        assert second['handle'] is timer
        for context in (first, second):
            assert isinstance(context['exception'], ZeroDivisionError)
            assert context['message'].startswith('Exception in callback ')
            assert 'broken()' in context['message']
            assert context['exception'].__traceback__ is not None

    @pytest.mark.parametrize('kind', [SystemExit, KeyboardInterrupt])
    def test_exits_leave_run_forever(self, kind):
        seen = []

        def leave():
            raise kind('enough')

        self.loop.call_soon(seen.append, 'before')
        self.loop.call_soon(leave)
        self.loop.call_soon(seen.append, 'after')
        with pytest.raises(kind, match='enough'):
            self.loop.run_forever()
        assert not self.loop.is_running()
        assert asyncio._get_running_loop() is None
        self.turns()
        assert seen == ['before', 'after']
        assert self.problems == []

    @pytest.mark.parametrize('kind', [SystemExit, KeyboardInterrupt])
    def test_exits_of_tasks_leave_run_until_complete(self, kind):
        async def leave():
            raise kind

        with pytest.raises(kind):
            self.loop.run_until_complete(leave())
        assert self.run(asyncio.sleep(0, 'usable')) == 'usable'

    def test_no_exception_is_being_handled_in_the_next_one(self):
        # The interpreter's exception state must be clean in the next callback.
        seen = []

        def broken():
            raise ValueError

        self.loop.call_soon(broken)
        self.loop.call_soon(lambda: seen.append(sys.exc_info()))
        self.turns()
        assert seen == [(None, None, None)]
        assert len(self.problems) == 1


class _TestContextsThatCannotBeEntered:
    """A callback whose context can't be entered is reported, and the others run."""

    def reported(self, caplog):
        # From 3.12 on asyncio calls the handler in that very context, and logs in the end.
        return len(self.problems) + len([r for r in caplog.records if r.name == 'asyncio'])

    def test_a_callback_is_reported_and_does_not_run(self, caplog):
        async def main():
            self.loop.call_soon(ran.append, 'never', context=entered)
            self.loop.call_later(0, ran.append, 'nor this', context=entered)
            await asyncio.sleep(0.01)
            return 'alive'

        ran = []
        entered = contextvars.copy_context()
        assert entered.run(self.run, main()) == 'alive'
        assert not ran
        assert self.reported(caplog) >= 2

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks' contexts are new in 3.11")
    def test_a_task_is_reported_and_does_not_run(self, caplog):
        async def work():
            ran.append(True)

        async def main():
            task = asyncio.create_task(coroutine, context=entered)
            await asyncio.sleep(0.01)
            assert not ran
            return task

        ran = []
        coroutine = work()
        entered = contextvars.copy_context()
        task = entered.run(self.run, main())
        assert self.reported(caplog)
        # Its first step will not be tried again.
        task._log_destroy_pending = False
        coroutine.close()

    def test_no_context_at_all_is_reported(self, caplog):
        ran = []
        self.loop.call_soon(ran.append, 'never', context=42)
        self.loop.call_soon(ran.append, 'next')
        self.loop.call_soon(self.loop.stop)
        self.forever()
        assert ran == ['next']
        assert self.reported(caplog)


both_sides(globals(), _TestCallbacks, _TestContextsThatCannotBeEntered)
