"""What the process of the tests has: threads, descriptors and limits."""
import os
import resource
import threading
import time
from pathlib import Path

# Numbers of epoll_wait, epoll_pwait, epoll_pwait2 and io_uring_enter, on x86-64 and arm64.
SLEEPS = {'232', '281', '22', '441', '426'}


def until_asleep(thread, seconds):
    """Wait until the loop in that thread has fallen asleep; ``seconds`` at most."""
    state = Path(f'/proc/self/task/{thread.native_id}/syscall')
    end = time.monotonic() + seconds
    while state.read_text().split()[0] not in SLEEPS and time.monotonic() < end:
        os.sched_yield()


def in_thread(function):
    """Call ``function`` in a thread that ends before this returns."""
    outcome = []

    def run():
        try:
            outcome.extend((True, function()))
        except BaseException as exc:
            outcome.extend((False, exc))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    succeeded, value = outcome
    if not succeeded:
        raise value
    return value


def descriptors():
    """The numbers of all that is open."""
    return sorted(os.listdir('/proc/self/fd'))


class limited:
    """RLIMIT_NOFILE, for a moment."""

    def __init__(self, count):
        self.count = count

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.count, self.before[1]))

    def __exit__(self, *exc):
        resource.setrlimit(resource.RLIMIT_NOFILE, self.before)
