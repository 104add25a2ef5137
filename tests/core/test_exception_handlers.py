"""Exception handlers of the loop: the program's, the default one, and broken ones."""
import asyncio
import gc
import logging

import pytest

from tests.support.cases import both_sides


class _TestExceptionHandlers:

    def test_the_one_that_is_set_is_called(self):
        def handler(loop, context):
            seen.append((loop, context))

        seen = []
        with pytest.raises(TypeError, match='callable'):
            self.loop.set_exception_handler(42)
        self.loop.set_exception_handler(handler)
        assert self.loop.get_exception_handler() is handler
        self.loop.call_exception_handler({'message': 'hello'})
        assert seen == [(self.loop, {'message': 'hello'})]

    def test_the_default_one_logs(self, caplog):
        self.loop.set_exception_handler(None)
        assert self.loop.get_exception_handler() is None

        def broken():
            raise ZeroDivisionError('to be logged')

        self.loop.call_soon(broken)
        with caplog.at_level(logging.ERROR, logger='asyncio'):
            self.turns()
        [record] = caplog.records
        assert 'broken' in record.getMessage()
        assert record.exc_info[0] is ZeroDivisionError

    def test_a_broken_one_is_logged_and_the_loop_goes_on(self, caplog):
        def handler(loop, context):
            raise TypeError('the handler itself')

        def broken():
            raise ZeroDivisionError

        self.loop.set_exception_handler(handler)
        self.loop.call_soon(broken)
        with caplog.at_level(logging.ERROR, logger='asyncio'):
            self.turns()
        assert any('Unhandled error in exception handler' in r.getMessage()
                   for r in caplog.records)
        assert self.run(asyncio.sleep(0, 'usable')) == 'usable'

    def test_an_exception_never_retrieved_is_reported(self):
        future = self.loop.create_future()
        future.set_exception(ValueError('lost'))
        del future
        gc.collect()
        [context] = self.problems
        assert 'exception was never retrieved' in context['message']


both_sides(globals(), _TestExceptionHandlers)
