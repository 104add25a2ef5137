"""The loop's core: turns, waiting, running, closing."""
import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context
from selectors import SelectorKey
from typing import Any, TypeVar

from typing_extensions import TypeVarTuple, Unpack

from uringloop.core.lender import Lender
from uringloop.core.ready import ReadyQueue
from uringloop.core.registry import Registry

_Args = TypeVarTuple('_Args')
_Result = TypeVar('_Result')

class LoopCore(Lender):
    """What is hot of an event loop; ``uringloop.Loop`` adds asyncio's cold half.

    It is one object in layers, so that the hot fields of all are C fields of it:
    ``Lender``, ``Submitter``, ``RingOwner``, ``Scheduler``, and this class, which runs the turns.
    """

    _closed: bool
    _stopping: bool
    _debug: bool
    _ending: bool
    _thread_id: int | None
    _task_factory: Any
    @property
    def _registry(self) -> Registry: ...
    _clock_resolution: float
    _timer_cancelled_count: int
    @property
    def _ready(self) -> ReadyQueue:
        """asyncio's queue of handles, for those who look into it."""
    @_ready.setter
    def _ready(self, handles: Iterable[asyncio.Handle]) -> None: ...
    @property
    def _scheduled(self) -> list[asyncio.TimerHandle]:
        """asyncio's heap of timers, for those who look into it."""
    @_scheduled.setter
    def _scheduled(self, heap: Iterable[asyncio.TimerHandle]) -> None: ...
    def _count_ready(self) -> int: ...
    def _list_ready(self) -> list[asyncio.Handle]: ...
    def _splice_ready(
            self, start: int, stop: int,
            handles: Iterable[asyncio.Handle]) -> list[asyncio.Handle]:
        """Put ``handles`` into the place of some, and return those."""
    def __setattr__(self, name: str, value: object, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...
    def call_soon(self, callback: Callable[[Unpack[_Args]], object], *args: Unpack[_Args],
                  context: Context | None = None) -> asyncio.Handle:
        """Call ``callback(*args)`` in the loop's next turn; returns a handle to cancel it."""
    def call_soon_threadsafe(
            self, callback: Callable[[Unpack[_Args]], object], *args: Unpack[_Args],
            context: Context | None = None) -> asyncio.Handle:
        """As ``call_soon``, from any thread: wakes the loop."""
    def call_later(
            self, delay: float, callback: Callable[[Unpack[_Args]], object],
            *args: Unpack[_Args], context: Context | None = None) -> asyncio.TimerHandle:
        """Call ``callback(*args)`` after ``delay`` seconds; returns a handle to cancel it."""
    def call_at(
            self, when: float, callback: Callable[[Unpack[_Args]], object],
            *args: Unpack[_Args], context: Context | None = None) -> asyncio.TimerHandle:
        """Call ``callback(*args)`` when ``loop.time()`` reaches ``when``."""
    def get_debug(self) -> bool:
        """Whether the loop is in debug mode; each future asks."""
    def time(self) -> float:
        """Seconds of the monotonic clock, as ``time.monotonic()``."""
    def create_task(
            self, coro: Generator[Any, None, _Result] | Coroutine[Any, Any, _Result], *,
            name: str | None = ..., context: Context | None = ...,
            **kwargs: Any) -> asyncio.Task[_Result]:
        """Schedule a coroutine; returns its task.  Arguments as ``asyncio.Task`` takes them."""
    def create_future(self) -> asyncio.Future[Any]:
        """A future attached to this loop."""
    def run_forever(self) -> None:
        """Run until ``stop()`` is called."""
    def _run_once(self) -> None:
        """One turn; for those who drive the loop themselves, or wrap its turns."""
    def _set_coroutine_origin_tracking(self, enabled: bool) -> None:
        """As asyncio's own, but not to be interrupted."""
    def _wait_on_ring(self, timeout: float | None) -> bool:
        """Wait, in seconds of the real clock, until something happens: whether it has."""
    def stop(self) -> None:
        """Stop running after the present turn."""
    def _ensure_fd_no_transport(self, fd: Any) -> None: ...
    def _add_callback(self, handle: asyncio.Handle) -> None: ...
    def _forget_wake(self) -> None:
        """In the child of a fork: the number may come to mean another socket."""
    def _close_core(self) -> None: ...
    def _release_orphans(self) -> None:
        """Whoever waits for a notification of the ring that was left is told when it is gone."""
    def _forget_timers(self) -> None: ...
    def _make_ring(self, entries: int, busy_poll: float, batch: bool) -> None:
        """Entries of the submission queue; microseconds to look before sleeping; whether the
        sends of a bulk may wait for the end of the turn.

        Raises UringUnavailableError.
        """
    def _send_deferred(self) -> None:
        """What waits for the end of the turn leaves now: something could tell the difference."""
    def _counters(self) -> dict[str, int]: ...
    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None: ...
    def _watch_selector(self, fd: int, selector_keys: dict[int, SelectorKey]) -> None: ...
    def _write_to_self(self) -> None: ...
    def _new_handle(
        self, callback: Callable[..., object], args: tuple[Any, ...],
        context: Context | None) -> asyncio.Handle: ...
