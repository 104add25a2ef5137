"""Runs one module of test.test_asyncio: child.py MODULE asyncio|uringloop OUTCOME [EXCUSED...].

What is excused is not run.  EXCUSED are names of tests; one ending in * is a prefix.
"""
import asyncio
import importlib
import json
import sys
import unittest


def use_uringloop():
    """Make this loop wherever the tests make asyncio's."""
    import uringloop

    class Loop(uringloop.Loop):
        """The loop where the tests make asyncio's: they name a selector, which it has not."""

        def __init__(self, selector=None):
            super().__init__()

    Loop.__name__ = Loop.__qualname__ = '_UnixSelectorEventLoop'
    asyncio.SelectorEventLoop = asyncio.EventLoop = Loop
    asyncio.unix_events.SelectorEventLoop = asyncio.unix_events._UnixSelectorEventLoop = Loop
    asyncio.unix_events.EventLoop = Loop
    if hasattr(asyncio.unix_events, '_UnixDefaultEventLoopPolicy'):
        asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = Loop


def name_of(test):
    return test.id().removeprefix('test.test_asyncio.')


def tests_of(suite):
    """All tests of a suite, and of those in it."""
    for test in suite:
        yield from tests_of(test) if isinstance(test, unittest.TestSuite) else [test]


def excuse(suite, names):
    """Have such tests skipped."""
    for test in tests_of(suite):
        if any(name_of(test) == name or (name.endswith('*') and name_of(test).startswith(name[:-1]))
               for name in names):
            method = getattr(test, test._testMethodName)
            setattr(test, test._testMethodName, unittest.skip('excused')(method))


class Result(unittest.TextTestResult):
    """Writes each outcome at once, so that a crash loses none."""

    outcome = ''

    def write(self, test, what):
        with open(self.outcome, 'a') as stream:
            stream.write(json.dumps([name_of(test), what]) + '\n')

    def addSuccess(self, test):
        super().addSuccess(test)
        self.write(test, 'ok')

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.write(test, f'failed: {err[0].__name__}: {err[1]}'[:300])

    def addError(self, test, err):
        super().addError(test, err)
        self.write(test, f'error: {err[0].__name__}: {err[1]}'[:300])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.write(test, 'excused' if reason == 'excused' else 'skipped')

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.write(test, f'failed: {err[0].__name__}: {err[1]}'[:300])


def main():
    """Entry point."""
    module, loop, Result.outcome, *excused = sys.argv[1:]
    if loop == 'uringloop':
        use_uringloop()
    suite = unittest.defaultTestLoader.loadTestsFromModule(
        importlib.import_module(f'test.test_asyncio.{module}'))
    excuse(suite, excused)
    runner = unittest.TextTestRunner(resultclass=Result, verbosity=2)
    sys.exit(0 if runner.run(suite).wasSuccessful() else 1)


# Processes that the tests start by forkserver or spawn import this file too.
if __name__ == '__main__':
    main()
