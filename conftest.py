"""How the tests tell how far they are: by one line that changes.

On a terminal; elsewhere by a line every ten seconds.  With -v pytest tells itself, test by test.
"""
import sys
import time

import pytest

PAUSE = 10.0


class Progress:
    """Stands in for the dots: counts, and names what fails at once."""

    def __init__(self, reporter):
        self.reporter = reporter
        self.terminal = sys.stdout.isatty()
        self.ended = self.total = self.failed = 0
        self.told = time.monotonic()
        self.shown = False
        # The names of files and the percentage at the right are pytest's own progress.
        reporter.showfspath = False
        reporter._show_progress_info = False

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report):
        category, _, word = yield
        # The letter is the dot; the word is for the summary.
        return category, '', word

    def pytest_collection_finish(self, session):
        self.total = len(session.items)

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed += 1
            self.clear()
            self.reporter.write_line(f'FAILED {report.nodeid}'
                                     f'{"" if report.when == "call" else f" ({report.when})"}')

    def pytest_runtest_logfinish(self, nodeid):
        self.ended += 1
        file = nodeid.partition('::')[0]
        line = f'{self.ended}/{self.total} tests, {self.failed} failed'
        now = time.monotonic()
        if self.terminal and now - self.told >= 0.1:
            self.told, self.shown = now, True
            self.reporter.rewrite(f'{line}: {file}', erase=True)
        elif not self.terminal and (now - self.told >= PAUSE or self.ended == self.total):
            self.told = now
            self.reporter.write_line(line)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self):
        self.clear()

    def clear(self):
        if self.shown:
            self.shown = False
            self.reporter.rewrite('', erase=True)
            self.reporter.write('\r')


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    # With -s the tests' own output would be in the line.
    if reporter and reporter.verbosity == 0 and config.option.capture != 'no':
        config.pluginmanager.register(Progress(reporter), 'progress')
