"""Runs one module of test.test_asyncio: child.py MODULE asyncio|uringloop OUTCOME."""
import asyncio
import importlib
import json
import sys
import unittest

module, loop, outcome = sys.argv[1:]

if loop == 'uringloop':
    import uringloop

    class Loop(uringloop.Loop):
        """The loop where the tests make asyncio's: they name a selector, which it has not."""

        def __init__(self, selector=None):
            super().__init__()

    Loop.__name__ = Loop.__qualname__ = '_UnixSelectorEventLoop'
    asyncio.SelectorEventLoop = asyncio.EventLoop = Loop
    asyncio.unix_events.SelectorEventLoop = asyncio.unix_events._UnixSelectorEventLoop = Loop
    asyncio.DefaultEventLoopPolicy._loop_factory = Loop


class Result(unittest.TextTestResult):
    """Writes each outcome at once, so that a crash loses none."""

    def write(self, test, what):
        with open(outcome, 'a') as stream:
            stream.write(json.dumps([test.id().removeprefix('test.test_asyncio.'), what]) + '\n')

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
        self.write(test, 'skipped')

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.write(test, f'failed: {err[0].__name__}: {err[1]}'[:300])


suite = unittest.defaultTestLoader.loadTestsFromModule(
    importlib.import_module(f'test.test_asyncio.{module}'))
runner = unittest.TextTestRunner(resultclass=Result, verbosity=2)
sys.exit(0 if runner.run(suite).wasSuccessful() else 1)
