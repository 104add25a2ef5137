"""What the collector finalizes, in the midst of a call."""
import contextlib
import gc


class Finalized:
    """Calls something when the collector finds it."""

    def __init__(self, call):
        self.itself = self
        self.call = call

    def __del__(self):
        self.call()


@contextlib.contextmanager
def collected_after(allocations, call):
    """``call`` runs when so many objects more have been made that the collector knows of.

    Python 3.10 and 3.11 collect wherever one is made, also within a call.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    Finalized(call)
    gc.set_threshold(allocations)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.collect()
