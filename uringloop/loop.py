"""The event loop: the core in Cython, and asyncio's own cold half by inheritance."""
from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import selectors
import signal
import socket
import sys
import threading
import weakref
from asyncio import base_events, events
from asyncio.log import logger
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from uringloop._cpython import attributes_of
from uringloop._inherited import warn_of_changes
from uringloop.core.plain_sockets import PLAIN_SOCKET, is_plain_socket
from uringloop.datagram.metadata import check_asked
from uringloop.datagram.protocol import check_protocol, untold, warn_or_abort
from uringloop.datagram.transport import DatagramTransport
from uringloop.memory.pools import BufferPool
from uringloop.memory.registered import RegisteredBuffer
from uringloop.options import check_names, check_options, check_switches, switch
from uringloop.pipe.reading import ReadPipeTransport
from uringloop.pipe.writing import WritePipeTransport
from uringloop.sockets.coroutines import SocketCoroutines, connect_is_known
from uringloop.sockets.methods import SocketCore
from uringloop.stats import LoopStats
from uringloop.stream.acceptor import Acceptor
from uringloop.stream.transport import StreamTransport
from uringloop.tls.protocol import SSLProtocol
from uringloop.transport import of_asyncio

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from _typeshed import FileDescriptorLike, WriteableBuffer

warn_of_changes()

_Result = TypeVar('_Result')
_ProtocolT = TypeVar('_ProtocolT', bound=asyncio.BaseProtocol)

_SelectorEventLoop = asyncio.SelectorEventLoop
_DATAGRAM_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


# The loop finds out by itself what it is.
_SOMETHING = (selectors.SelectorKey(-1, -1, selectors.EVENT_READ, None), selectors.EVENT_READ)


class _WatchedSelector(selectors.BaseSelector):
    """The epoll of ``add_reader`` and ``add_writer``.

    It is there from the start, as asyncio's, for a program may have no descriptor left later;
    but the loop looks after it only from its first use on.
    """

    def __init__(self) -> None:
        self._real = selectors.EpollSelector()
        self._watched = False
        self._inherited: list[selectors.SelectorKey] = []
        # Whether something happens in so many seconds: while the loop asks.
        self.wait: Callable[[float | None], bool] | None = None
        self.on_first_use: Callable[[int, dict[int, selectors.SelectorKey]], None]

    def register(
            self, fileobj: FileDescriptorLike, events: int,
            data: Any = None) -> selectors.SelectorKey:
        if not self._watched:
            self._watch()
        return self._real.register(fileobj, events, data)

    def _watch(self) -> None:
        self.on_first_use(
            self._real.fileno(), self._real._fd_to_key)  # type: ignore[attr-defined]
        self._watched = True

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(
            self, fileobj: FileDescriptorLike, events: int,
            data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(
            self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.wait is not None:
            return [_SOMETHING] if self.wait(timeout) else []
        raise RuntimeError("the loop waits on its ring, not on its selector: what drives asyncio's "
                           'own loop from outside (nest_asyncio?) cannot drive this one')

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def close(self) -> None:
        self._real.close()

    def close_in_child(self) -> None:
        """After fork(): the epoll is the parent's too.  Remember what it watched."""
        self._inherited = list(self._real.get_map().values())
        self._real.close()
        self._real = selectors.EpollSelector()
        self._watched = False

    def go_on_in_child(self) -> None:
        """Watch what ``close_in_child`` has remembered, by an epoll of the child's own."""
        if self._watched:            # the child has used it before the loop runs there
            self._watch()
        inherited, self._inherited = self._inherited, []
        for key in inherited:
            if key.fd not in self._real.get_map():
                self.register(key.fileobj, key.events, key.data)


# Python 3.15's connections each have a context of their own.
_CONNECTIONS_HAVE_CONTEXTS = 'context' in inspect.signature(
    _SelectorEventLoop._make_socket_transport).parameters  # type: ignore[attr-defined]

# What asyncio's loop does with what a child watcher has found out.
_EXIT_SKIPS_A_TURN = sys.version_info < (3, 12)
_EXIT_IS_TOLD_AT_ONCE = sys.version_info >= (3, 14)

_STREAM_NONBLOCK = socket.SOCK_STREAM | socket.SOCK_NONBLOCK

_pidfd_works: bool | None = None      # not yet tried


def _can_use_pidfd() -> bool:
    """Whether this process may have pidfds; a seccomp filter can forbid them."""
    global _pidfd_works
    if _pidfd_works is None:
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            _pidfd_works = False
        else:
            _pidfd_works = True
    return _pidfd_works


def _program_watches_children() -> bool:
    """Whether the program has set a child watcher that reaps children itself.

    The interface is gone from Python 3.14 on, and deprecated before: it is looked
    for without being called.
    """
    watcher = getattr(getattr(events, '_event_loop_policy', None), '_watcher', None)
    return watcher is not None and type(watcher).__name__ not in (
        'ThreadedChildWatcher', 'PidfdChildWatcher')


# For the child of a fork: see _close_in_child.
_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


def _close_in_child() -> None:
    """Give up the child's copies of the parent's descriptors.

    Or a child that lives on would keep the parent's wake-up sockets open.
    """
    for loop in list(_loops):
        if loop.is_closed():
            continue
        if loop._signal_handlers:
            signal.set_wakeup_fd(-1)
        loop._forget_wake()
        if loop._ssock is not None:
            loop._ssock.close()
            loop._csock.close()  # type: ignore[union-attr]
        loop._selector.close_in_child()  # type: ignore[attr-defined]


def _send_before_fork() -> None:
    """The child is not to be made before what was sent."""
    for loop in list(_loops):
        loop._send_deferred()


os.register_at_fork(before=_send_before_fork, after_in_child=_close_in_child)


def _take_what_is_read(protocol: Any, ssl_protocol: Any) -> None:
    """The client's first bytes may have come, and be in the server's stream reader.

    As the newest releases of asyncio do; with others they are lost to TLS.
    """
    reader = None
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader = getattr(protocol, '_stream_reader', None)
    incoming = getattr(ssl_protocol, '_incoming', None)        # there is none in Python 3.10
    if reader is not None and incoming is not None and reader._buffer:
        incoming.write(reader._buffer)
        reader._buffer.clear()


class Loop(SocketCoroutines, SocketCore, _SelectorEventLoop):  # type: ignore[misc]
    """asyncio's event loop on io_uring.  Make one with ``uringloop.new_event_loop``."""

    # asyncio's own
    _ssock: socket.socket | None
    _csock: socket.socket | None
    _internal_fds: int
    _selector: selectors.BaseSelector
    _signal_handlers: dict[int, asyncio.Handle]

    if not TYPE_CHECKING:
        __dict__ = property(attributes_of)

    def __init__(
            self, *, entries: int = 256, busy_poll: float = 50, batch: bool | None = None,
            gro: bool | None = None) -> None:
        check_options(entries, busy_poll, batch, gro)
        if batch is None:
            batch = switch('URINGLOOP_BATCH', True)
        self._gro = switch('URINGLOOP_GRO', True) if gro is None else gro
        selector = _WatchedSelector()
        self._acceptors: dict[int, Acceptor] = {}
        self._pidfds: set[int] = set()
        _SelectorEventLoop.__init__(self, selector)
        try:
            self._make_ring(entries, busy_poll, batch)
        except BaseException:
            self._forget_wake()
            self._close_self_pipe()
            selector.close()
            self._closed = True
            raise
        selector.on_first_use = self._watch_selector
        self._transports = self._registry
        # Of the datagram transport that asyncio makes next: ``batch``, whether it has UDP_GRO, and
        # what the kernel is to tell with each datagram; and whether its socket is asyncio's.
        self._switches_next: tuple[bool | None, bool, int, bool] = (None, False, 0, False)
        self._given: weakref.WeakSet[socket.socket] | None = None      # until there is one
        _loops.add(self)

    def stats(self) -> LoopStats:
        """The loop's counters, now."""
        return LoopStats(**self._counters())

    def create_buffer_pool(
            self, count: int, size: int, *, hugepages: bool = False) -> BufferPool:
        """Memory for ``count`` buffers of ``size`` bytes, registered with the kernel once.

        With ``hugepages`` it lies on huge pages (madvise(2), MADV_HUGEPAGE) if the kernel has
        any; the pool's ``repr`` says so.  Where the limit of locked memory (RLIMIT_MEMLOCK)
        does not allow to register so much, the pool works all the same, and is sent from as
        ordinary memory.  ValueError: ``count`` or ``size`` is no number of buffers or bytes;
        MemoryError: the machine has not so much.
        """
        return BufferPool(self, count, size, hugepages)

    def register_buffer(self, obj: WriteableBuffer) -> RegisteredBuffer:
        """Register memory of the program's own with the kernel, until ``close()`` of the result.

        Or until the end of its ``async with``; a plain ``with`` is a TypeError, for closing waits.
        ``obj`` is writable and contiguous: a ``bytearray``, an anonymous ``mmap``, an array.
        TypeError: it is not; OSError: the kernel does not take it, or the limit
        of locked memory (RLIMIT_MEMLOCK) does not allow it.  A private mapping of a file is copied
        page by page: to send a file, map it read-only, and do not register it.
        """
        return RegisteredBuffer(self, obj)

    def _note_given(self, sock: Any) -> None:
        """The program may use its own socket besides, between writes."""
        if isinstance(sock, PLAIN_SOCKET):
            if self._given is None:
                self._given = weakref.WeakSet()
            self._given.add(sock)

    async def create_unix_connection(
            self, protocol_factory: Callable[[], _ProtocolT], path: Any = None,
            **options: Any) -> tuple[asyncio.Transport, _ProtocolT]:
        """As asyncio's."""
        self._note_given(options.get('sock'))
        return await super().create_unix_connection(protocol_factory, path, **options)

    async def connect_accepted_socket(
            self, protocol_factory: Callable[[], _ProtocolT], sock: socket.socket,
            **options: Any) -> tuple[asyncio.Transport, _ProtocolT]:
        """As asyncio's."""
        self._note_given(sock)
        return await super().connect_accepted_socket(protocol_factory, sock, **options)

    async def create_connection(  # type: ignore[override]
            self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None,
            port: Any = None, **options: Any) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """As asyncio's, which this leaves everything to but the plainest case.

        That is a numeric address and nothing else: no names, no TLS, no choice.
        """
        family = 0
        own = getattr(self.sock_connect, '__func__', None) is SocketCoroutines.sock_connect
        if own and not options and not self._debug and vars(base_events)['socket'] is socket \
                and socket.socket is PLAIN_SOCKET and connect_is_known():
            family = self._numeric_family(host, port)
        if not family:
            self._note_given(options.get('sock'))
            return await super().create_connection(protocol_factory, host, port, **options)
        sock = socket.socket(family, _STREAM_NONBLOCK, socket.IPPROTO_TCP)
        # Where asyncio keeps them in one, all callbacks run in a copy of the caller's context.
        context = contextvars.copy_context() if _CONNECTIONS_HAVE_CONTEXTS else None
        address = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
        # The kernel writes IPv4 addresses as they were read, but for the one that means this host.
        known = family == socket.AF_INET and host != '0.0.0.0'
        try:
            pending = self._connect_now(sock, address)
            while pending is not None:
                await self._wait_for(pending)
                pending = self._connect_on(sock, address, pending)
            protocol = protocol_factory()
            waiter = self.create_future()
            transport = self._make_socket_transport(
                sock, protocol, waiter, extra={'peername': address} if known else None,
                context=context)
        except BaseException:
            sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    def _make_self_pipe(self) -> None:
        self._ssock, self._csock = socket.socketpair()
        self._ssock.setblocking(False)
        self._csock.setblocking(False)
        self._internal_fds += 1

    def _close_self_pipe(self) -> None:
        assert self._ssock is not None and self._csock is not None
        self._ssock.close()
        self._csock.close()
        self._ssock = self._csock = None
        self._internal_fds -= 1

    def _begin_in_child(self) -> None:
        """Made before fork() and never run: what ``_close_in_child`` has closed is made anew."""
        self._make_self_pipe()           # or, if that fails, there are the closed ones
        self._internal_fds -= 1
        if self._signal_handlers and self._csock is not None:
            signal.set_wakeup_fd(self._csock.fileno())
        self._selector.go_on_in_child()  # type: ignore[attr-defined]

    async def create_datagram_endpoint(  # type: ignore[override]
            self, protocol_factory: Callable[[], _ProtocolT],
            local_addr: tuple[str, int] | str | None = None,
            remote_addr: tuple[str, int] | str | None = None, *,
            batch: bool | None = None, gro: bool | None = None, ecn: bool | None = None,
            pktinfo: bool | None = None, timestamps: bool | None = None,
            drops: bool | None = None, family: int = 0, proto: int = 0, flags: int = 0,
            reuse_port: bool | None = None, allow_broadcast: bool | None = None,
            sock: socket.socket | None = None,
            **options: NoReturn) -> tuple[DatagramTransport, _ProtocolT]:
        """As asyncio's, with some switches more.

        ``batch=False``: no datagram waits for the end of its turn.

        ``gro``: whether the kernel may put together what comes in a row (UDP_GRO, udp(7)), which
        spares most of what each datagram costs; they are cut apart again here.  By default it
        may on a socket that this makes, unless the loop says otherwise or ``drops`` are counted,
        and not on ``sock``.

        ``ecn``, ``pktinfo``, ``timestamps``, ``drops``: have the kernel tell that with each
        datagram, for a protocol with ``datagram_received_with_info`` (see ``DatagramProtocol``).
        ValueError where the family has none of it; RuntimeWarning where the protocol has no
        method to be told by.

        TypeError: a method of the protocol cannot be called as it is to be.
        """
        check_names(options)
        self._send_deferred()            # whoever is there by now has it, and not this one
        metadata = {'ecn': ecn, 'pktinfo': pktinfo, 'timestamps': timestamps, 'drops': drops}
        check_switches(batch=batch, gro=gro, **metadata)
        asked = check_asked(getattr(sock, 'family', family), metadata)
        if asked and sock is not None and not is_plain_socket(sock):
            raise ValueError(f'{sock!r} is of a class of its own, and asyncio reads from it: '
                             'there is no metadata')
        own = sock is None
        if gro is None:
            # Of trains the kernel counts as one what it has dropped.
            gro = self._gro and own and not drops
        switches = batch, gro, asked, own

        def make_protocol() -> _ProtocolT:
            protocol = protocol_factory()
            self._switches_next = switches       # asyncio makes the transport next
            return protocol

        transport, protocol = await super().create_datagram_endpoint(
            make_protocol, local_addr, remote_addr, family=family, proto=proto, flags=flags,
            reuse_port=reuse_port, allow_broadcast=allow_broadcast, sock=sock, **options)
        told = transport.get_protocol()          # None: it has closed by now
        text = untold(told, metadata) if told is not None else ''
        if text:
            warn_or_abort(text, transport)
        return cast(DatagramTransport, transport), protocol

    def _check_no_transport(self, sock: socket.socket) -> None:
        # Older ones let programs make a second transport on one socket.
        if sys.version_info >= (3, 12):
            self._ensure_fd_no_transport(sock)

    def _make_datagram_transport(
            self, sock: socket.socket, protocol: asyncio.BaseProtocol, address: Any = None,
            waiter: asyncio.Future[None] | None = None,
            extra: Mapping[str, Any] | None = None) -> asyncio.DatagramTransport:
        (batch, gro, asked, own), self._switches_next = \
            self._switches_next, (None, False, 0, False)
        check_protocol(protocol, sock if own else None)
        self._check_no_transport(sock)
        if sock.family not in _DATAGRAM_FAMILIES or not is_plain_socket(sock):
            # Netlink, packet, vsock, ...; or one that wants to be asked: asyncio's transport.
            return cast(asyncio.DatagramTransport, of_asyncio.chosen(
                of_asyncio._SelectorDatagramTransport)(
                    self, sock, protocol, address, waiter, extra))
        transport = DatagramTransport(self, sock, protocol, address, waiter, extra)
        if batch is not None:
            transport._set_batching(batch)
        if not own and not batch:
            transport._given()
        try:
            if gro:
                transport._receive_trains()
            if asked:
                transport._receive_metadata(asked)
        except BaseException:
            transport.abort()
            raise
        return transport

    def _make_socket_transport(
            self, sock: socket.socket, protocol: asyncio.BaseProtocol,
            waiter: asyncio.Future[None] | None = None, *,
            extra: Mapping[str, Any] | None = None,
            server: asyncio.AbstractServer | None = None,
            context: contextvars.Context | None = None) -> asyncio.Transport:
        self._check_no_transport(sock)
        if not is_plain_socket(sock):
            own = {} if context is None else {'context': context}     # new in Python 3.15
            return cast(asyncio.Transport, of_asyncio.chosen(
                of_asyncio._SelectorSocketTransport)(
                    self, sock, protocol, waiter, extra, server, **own))
        transport = StreamTransport(self, sock, protocol, waiter, extra, server, context)
        if self._given is not None and sock in self._given:
            # The program may send by it between writes, pass descriptors, or close it.
            transport._set_batching(False)
        return transport

    def _make_read_pipe_transport(
            self, pipe: IO[Any], protocol: asyncio.BaseProtocol,
            waiter: asyncio.Future[None] | None = None,
            extra: Mapping[str, Any] | None = None) -> asyncio.ReadTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
            self, pipe: IO[Any], protocol: asyncio.BaseProtocol,
            waiter: asyncio.Future[None] | None = None,
            extra: Mapping[str, Any] | None = None) -> asyncio.WriteTransport:
        return WritePipeTransport(self, pipe, protocol, waiter, extra)

    def _make_ssl_transport(
            self, rawsock: socket.socket, protocol: asyncio.BaseProtocol, sslcontext: Any,
            waiter: asyncio.Future[None] | None = None, *, server_side: bool = False,
            server_hostname: str | None = None, extra: Mapping[str, Any] | None = None,
            server: asyncio.AbstractServer | None = None,
            context: contextvars.Context | None = None, **timeouts: Any) -> asyncio.Transport:
        self._check_no_transport(rawsock)
        ssl_protocol = SSLProtocol(
            self, protocol, sslcontext, waiter,  # type: ignore[arg-type]
            server_side, server_hostname, **timeouts)
        self._make_socket_transport(
            rawsock, ssl_protocol, extra=extra, server=server, context=context)
        return ssl_protocol._app_transport

    async def start_tls(  # type: ignore[override]
            self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol,
            sslcontext: Any, *, server_side: bool = False,
            server_hostname: str | None = None, **timeouts: Any) -> asyncio.Transport | None:
        """As asyncio's."""
        ssl = vars(base_events)['ssl']      # None where this Python has none
        if ssl is None or not isinstance(sslcontext, ssl.SSLContext) \
                or not getattr(transport, '_start_tls_compatible', False):
            # It has the words for what is wrong.
            return await super().start_tls(
                transport, protocol, sslcontext, server_side=server_side,
                server_hostname=server_hostname, **timeouts)
        waiter = self.create_future()
        ssl_protocol = SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname,
            call_connection_made=False, **timeouts)
        # What comes before connection_made() is not for the new protocol yet.
        transport.pause_reading()
        if server_side:
            _take_what_is_read(protocol, ssl_protocol)
        transport.set_protocol(ssl_protocol)
        begins = [self.call_soon(ssl_protocol.connection_made, transport),
                  self.call_soon(transport.resume_reading)]
        try:
            await waiter
        except BaseException:
            transport.close()
            for handle in begins:
                handle.cancel()
            del waiter          # its exception has this frame: a circle with all that is named here
            raise
        return ssl_protocol._app_transport

    def _start_serving(
            self, protocol_factory: Callable[[], asyncio.BaseProtocol], sock: socket.socket,
            sslcontext: Any = None, server: asyncio.AbstractServer | None = None,
            backlog: int = 100, *timeouts: Any,
            context: contextvars.Context | None = None, **more: Any) -> None:
        if not is_plain_socket(sock):
            # Not a socket of the system's, or one that wants to be asked.
            if context is not None:
                more['context'] = context
            super()._start_serving(  # type: ignore[misc]
                protocol_factory, sock, sslcontext, server, backlog, *timeouts, **more)
            return
        self._remove_reader(sock.fileno())      # the later has the socket, as with asyncio
        self._acceptors[sock.fileno()] = Acceptor(
            self, sock, protocol_factory, backlog, (sslcontext, server, *timeouts), more, server,
            context)

    def _stop_serving(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:       # else the program has closed it; asyncio minds
            super()._stop_serving(sock)  # type: ignore[misc]

    def _stop_accepting(self, fd: FileDescriptorLike) -> bool:
        """What accepts on this socket is the reader of it: whether there was one."""
        if not self._acceptors:
            return False
        acceptor = self._acceptors.pop(fd if isinstance(fd, int) else fd.fileno(), None)
        if acceptor is not None:
            acceptor.stop()
        return acceptor is not None

    def _add_reader(
            self, fd: FileDescriptorLike, callback: Callable[..., object], *args: Any,
            **own: Any) -> asyncio.Handle:
        handle = self._watch(fd, selectors.EVENT_READ, callback, args, **own)
        self._stop_accepting(fd)
        return handle

    def _add_writer(
            self, fd: FileDescriptorLike, callback: Callable[..., object], *args: Any,
            **own: Any) -> asyncio.Handle:
        return self._watch(fd, selectors.EVENT_WRITE, callback, args, **own)

    def _watch(
            self, fd: FileDescriptorLike, event: int, callback: Callable[..., object],
            args: tuple[Any, ...], context: contextvars.Context | None = None) -> asyncio.Handle:
        """As asyncio's, but with a handle of the loop's own, which takes less to be run."""
        self._check_closed()  # type: ignore[attr-defined]
        handle = self._new_handle(callback, args, context)
        try:
            key = self._selector.get_key(fd)
        except KeyError:
            known, reader, writer = 0, None, None
        else:
            known, (reader, writer) = key.events, key.data
        before, data = (reader, (handle, writer)) if event == selectors.EVENT_READ \
            else (writer, (reader, handle))
        if known:
            self._selector.modify(fd, known | event, data)
        else:
            self._selector.register(fd, event, data)
        if before is not None:
            before.cancel()
        return handle

    def _remove_reader(self, fd: FileDescriptorLike) -> bool:
        stopped = self._stop_accepting(fd)
        return bool(super()._remove_reader(fd)) or stopped  # type: ignore[misc]

    def run_in_executor(  # type: ignore[override]
            self, executor: Executor | None, func: Callable[..., _Result], *args: Any,
            ) -> asyncio.Future[_Result]:
        """Call ``func`` in another thread, as asyncio's; what was sent before leaves before."""
        self._send_deferred()
        return super().run_in_executor(executor, func, *args)

    async def _make_subprocess_transport(  # noqa: PLR0917
            self, protocol: asyncio.BaseProtocol, args: Any, shell: bool, stdin: Any, stdout: Any,
            stderr: Any, bufsize: int, extra: Mapping[str, Any] | None = None,
            **kwargs: Any) -> asyncio.SubprocessTransport:
        """Watch the child by its pidfd: no thread, no SIGCHLD, no child watcher."""
        self._send_deferred()
        if not _can_use_pidfd() or _program_watches_children():
            return await super()._make_subprocess_transport(  # type: ignore[misc, no-any-return]
                protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs)
        waiter = self.create_future()
        transport: Any = of_asyncio.chosen(of_asyncio._UnixSubprocessTransport)(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize,
            waiter=waiter, extra=extra, **kwargs)
        self._watch_child(transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        return transport  # type: ignore[no-any-return]

    def _watch_child(self, transport: Any) -> None:
        pid = transport.get_pid()
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            # SIGCHLD is ignored, or its handler waits for every child: it is gone already.
            self.call_soon(self._child_ended, transport)
        except OSError:
            # No descriptor is left: a thread waits, as with asyncio's older child watchers.
            threading.Thread(target=self._wait_in_thread, args=(transport, pid),
                             name=f'waitid-{pid}', daemon=True).start()
        else:
            self._pidfds.add(pidfd)
            with contextlib.suppress(KeyError):
                # Of a descriptor that the program has closed, and left there.
                for handle in self._selector.unregister(pidfd).data:
                    if handle is not None:
                        handle.cancel()      # or its call takes out who has the number then
            self._add_reader(pidfd, self._child_exited, pidfd, transport)

    def _wait_in_thread(self, transport: Any, pid: int) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):      # the loop is closed: nobody asks any more
            self.call_soon_threadsafe(self._child_ended, transport)

    def _child_exited(self, pidfd: int, transport: Any) -> None:
        self._remove_reader(pidfd)
        self._pidfds.remove(pidfd)
        os.close(pidfd)
        self._child_ended(transport)

    def _child_ended(self, transport: Any) -> None:
        # As asyncio's child watcher: a turn later, or two before Python 3.12, so that the
        # pipes, which end before the child does, are heard of first.
        if _EXIT_IS_TOLD_AT_ONCE:
            self.call_soon(self._tell_exit, transport)
            return
        told: tuple[Any, ...] = (transport._process_exited, self._reap(transport))
        if _EXIT_SKIPS_A_TURN:
            told = (self.call_soon, *told)
        self.call_soon_threadsafe(*told)

    def _tell_exit(self, transport: Any) -> None:
        # Nobody is to send signals to a number that is free again.
        transport._process_exited(self._reap(transport))

    def _reap(self, transport: Any) -> int:
        """The child's exit status; it has ended."""
        pid = transport.get_pid()
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            # Someone else has waited for it.  If it was Popen (until 3.11 sending a signal
            # looks first), it knows the status; otherwise that is lost.
            returncode: int | None = transport._proc.returncode
            if returncode is not None:
                return returncode
            logger.warning('child process pid %d exit status already read: '
                           'will report returncode 255', pid)
            return 255
        return os.waitstatus_to_exitcode(status)

    def __del__(self) -> None:
        try:
            super().__del__()
        finally:                 # its warning may be an error: then it has not closed the loop
            if not self.is_closed() and not self.is_running():
                self.close()

    def close(self) -> None:
        """Close the loop: cancel what is in flight, wait for it, release what it held.

        It waits a second at most.  What the kernel still has then (a neighbour that does not
        answer keeps zero-copy sends waiting) is kept until it has let go.
        """
        if self.is_running():
            raise RuntimeError('Cannot close a running event loop')
        if self.is_closed() or self._ending:
            return               # a finalizer, say, of what is being let go of
        self._ending = True
        try:
            self._close_core()
            self._acceptors.clear()
            while self._pidfds:      # of children that outlive the loop
                os.close(self._pidfds.pop())
            _SelectorEventLoop.close(self)
            self._forget_timers()
        finally:
            self._ending = False
