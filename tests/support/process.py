"""What the process of the tests has: threads, descriptors and limits."""
import os
import resource
import threading


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
