"""The two sides of every mixin: the same test on asyncio's loop and on this one.

    class _TestThing:
        def test_it(self):
            async def main():
                ...
            self.run(main())

    class TestThingAsyncio(_TestThing, AsyncioCase): pass
    class TestThingUring(_TestThing, UringCase): pass

After each test on this loop that has passed so far the leak counters are checked:
no operation in flight or live, nothing pinned, no completion that nobody expected.
"""
from __future__ import annotations

import asyncio
import gc
import traceback
import warnings
from asyncio import selector_events

import pytest

import uringloop
from tests.support.turns import settle
from uringloop.copying.loop import CopyingLoop
from uringloop.ring import orphans

# In Python 3.10, and in the first releases of 3.11 (Debian 12 has 3.11.2), only stream
# transports could pause reading, and one paused in connection_made began to read all the same.
# Both came to an end in one change, which is told by whose method this is.
ASYNCIO_PAUSES = (selector_events._SelectorDatagramTransport.is_reading
                  is not asyncio.ReadTransport.is_reading)


class Case:
    """A fresh loop a test, in ``self.loop``; ``run`` bounds each test in time."""

    uring = False
    timeout = 5.0
    body_failed = False     # conftest sets it

    def new_loop(self) -> asyncio.AbstractEventLoop:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _fresh_loop(self):
        self.loop = self.new_loop()
        self.problems: list[dict] = []
        self.loop.set_exception_handler(lambda loop, context: self.problems.append(context))
        asyncio.set_event_loop(None)
        yield
        self.finish()
        # pytest keeps the instance, and each collection to come would look at all that it holds.
        for name in vars(self).keys() - {'problems', 'body_failed'}:
            delattr(self, name)

    def finish(self) -> None:
        self.loop.close()

    def collect(self) -> None:
        """What was left behind warns now; after a failure that is no finding of its own."""
        with warnings.catch_warnings():
            if self.body_failed:
                warnings.simplefilter('ignore', ResourceWarning)
            gc.collect()

    def told_problems(self) -> str:
        """What the loop's exception handler was told, with tracebacks."""
        return '\n'.join(told(context) for context in getattr(self, 'problems', []))

    def needs_pausing(self) -> None:
        """Leave the test out where asyncio's transports cannot pause as it wants."""
        if not self.uring and not ASYNCIO_PAUSES:
            pytest.skip('the asyncio of this Python cannot pause datagrams, nor pause at once')

    def run(self, main):
        """Run a coroutine to its end, within ``self.timeout`` seconds."""
        return self.loop.run_until_complete(asyncio.wait_for(main, self.timeout))

    def forever(self):
        """``run_forever`` until the test stops the loop, within ``self.timeout`` seconds."""
        late = []
        guard = self.loop.call_later(self.timeout, lambda: (late.append(True), self.loop.stop()))
        try:
            self.loop.run_forever()
        finally:
            guard.cancel()
        assert not late, 'nobody stopped the loop'

    def turns(self, count=1):
        """Run that many turns of the loop."""
        for _ in range(count):
            self.loop.stop()
            self.loop.run_forever()


class AsyncioCase(Case):
    """The reference: what asyncio's own loop does."""

    def new_loop(self):
        return asyncio.SelectorEventLoop()


class UringCase(Case):
    """This loop, with its leak counters checked."""

    uring = True

    def new_loop(self):
        return uringloop.new_event_loop(require_uring=True)

    def finish(self):
        loop = self.loop
        if not loop.is_closed():
            # What was closed at the test's end needs a few turns to be let go of.
            loop.run_until_complete(settle())
            loop.close()
        self.collect()
        if not self.body_failed:
            assert_no_leaks(loop)


class FallbackMixin:
    """Before a ``UringCase``: the loop is that by which all is copied."""

    uring = False

    def new_loop(self):
        return CopyingLoop()

    def finish(self):
        if not self.loop.is_closed():
            self.loop.run_until_complete(settle())
            self.loop.close()
        self.collect()


def only_uring(test):
    """Of a test: what it looks at the fallback has not, a ring or zero-copy, or leaves to asyncio.

    It says why, in its docstring or in a comment.
    """
    test.only_uring = True
    return test


def on_the_fallback_too(namespace: dict, *cases: type) -> None:
    """Put ``TestThingFallback`` into a module for each ``TestThing``: but for ``only_uring``."""
    for case in cases:
        left_out = {name: None for kind in case.__mro__ for name, test in vars(kind).items()
                    if getattr(test, 'only_uring', False)}
        name = f'{case.__name__}Fallback'
        namespace[name] = type(name, (FallbackMixin, case), {
            **left_out, '__module__': namespace['__name__'], '__doc__': case.__doc__})


def told(context: dict) -> str:
    """What an exception handler was told, as text."""
    lines = [f'{key}: {value!r}\n' for key, value in context.items() if key != 'message']
    exc = context.get('exception')
    if isinstance(exc, BaseException):
        lines += traceback.format_exception(type(exc), exc, exc.__traceback__)
    return ''.join([f'{context.get("message")}\n', *lines])


def both_sides(namespace: dict, *mixins: type) -> None:
    """Put ``TestThingAsyncio`` and ``TestThingUring`` into a module for each ``_TestThing``."""
    for mixin in mixins:
        for case in (AsyncioCase, UringCase):
            name = mixin.__name__.lstrip('_') + case.__name__.removesuffix('Case')
            namespace[name] = type(name, (mixin, case), {'__module__': namespace['__name__']})


def assert_no_leaks(loop) -> None:
    """Nothing is in flight, live or pinned on a closed loop, and no ring is buried."""
    stats = loop.stats()
    assert stats.operations_in_flight == 0
    assert stats.operations_live == 0
    assert stats.bytes_pinned == 0
    assert stats.unknown_completions == 0
    orphans.release_torn_down()
    assert not orphans.orphaned_rings
