"""The base class of datagram protocols that says what this loop can call."""
from __future__ import annotations

import asyncio
import inspect
import socket
import types
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uringloop.datagram.metadata import DatagramInfo


class DatagramProtocol(asyncio.DatagramProtocol):
    """asyncio's ``DatagramProtocol``; a place to read which methods a protocol may have.

    It has asyncio's methods and no others: ``connection_made``, ``datagram_received``,
    ``error_received``, ``pause_writing``, ``resume_writing``, ``connection_lost``.  What comes is
    handed over by the first of these that the protocol's class has, and by no other:

    ``datagram_msg_received(data: bytes, ancdata: list[tuple[int, int, bytes]], flags: int, addr)``
        Each by itself, with its control messages, as ``socket.recvmsg`` has them: those that the
        program has set socket options for.

    ``datagram_train_received_with_info(data, segment_size, addr, info: uringloop.DatagramInfo)``
    ``datagrams_received_with_info(batch: list[tuple[bytes, Any, uringloop.DatagramInfo]])``
    ``datagram_received_with_info(data, addr, info: uringloop.DatagramInfo)``
        As the three below, with what ``ecn=``, ``pktinfo=``, ``timestamps=`` and ``drops=`` of
        ``create_datagram_endpoint`` have the kernel tell.  The datagrams of a train have one
        ``info``.

    ``datagram_train_received(data: bytes, segment_size: int, addr)``
        What the kernel has put together (UDP_GRO), in one piece: datagrams of ``segment_size``
        bytes that lie side by side, from one sender, the last may be shorter.  A datagram that
        came alone has a ``segment_size`` of its own length; of an empty one it is 1.

    ``datagrams_received(batch: list[tuple[bytes, Any]])``
        All that a turn of the loop has for this protocol, as ``(data, addr)`` in the order in
        which they came: from several senders, but from one error to the next.  The list is the
        protocol's own.

    ``datagram_received(data: bytes, addr)``
        As with asyncio: each by itself.

    And what the network, or this machine, says of what was sent is handed over by

    ``datagram_errqueue_received(data: bytes, ancdata, flags: int, addr)``
        As ``socket.recvmsg`` has it with MSG_ERRQUEUE.  A protocol with this method has the
        socket options IP_RECVERR and IPV6_RECVERR set.  AF_UNIX has no error queue.

    They are looked up on the type, as Python does with ``__len__``: one that is given to an
    instance is not seen, and None in a class takes back what a base class has.  What cannot be
    called so, a counter that has the name, is none of them.  A protocol need not be a subclass of
    this one.  docs/datagrams.md says when to use which.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        # For type checkers only: one that were there would be called.

        def datagram_msg_received(
                self, data: bytes, ancdata: list[tuple[int, int, bytes]], flags: int,
                addr: Any) -> None:
            """Each with its control messages."""

        def datagram_train_received_with_info(
                self, data: bytes, segment_size: int, addr: Any, info: DatagramInfo) -> None:
            """What the kernel has put together."""

        def datagrams_received_with_info(
                self, batch: list[tuple[bytes, Any, DatagramInfo]]) -> None:
            """All that a turn has."""

        def datagram_received_with_info(
                self, data: bytes, addr: Any, info: DatagramInfo) -> None:
            """Each by itself."""

        def datagrams_received(self, batch: list[tuple[bytes, Any]]) -> None:
            """All that a turn has."""

        def datagram_train_received(self, data: bytes, segment_size: int, addr: Any) -> None:
            """What the kernel has put together."""

        def datagram_errqueue_received(
                self, data: bytes, ancdata: list[tuple[int, int, bytes]], flags: int,
                addr: Any) -> None:
            """From the error queue."""


# What a protocol is called by: the first of these that it has, with these arguments.
METHODS = {
    'datagram_msg_received': ('data', 'ancdata', 'flags', 'addr'),
    'datagram_train_received_with_info': ('data', 'segment_size', 'addr', 'info'),
    'datagrams_received_with_info': ('batch',),
    'datagram_received_with_info': ('data', 'addr', 'info'),
    'datagram_train_received': ('data', 'segment_size', 'addr'),
    'datagrams_received': ('batch',),
}
ERRQUEUE_METHOD = 'datagram_errqueue_received'
ERRQUEUE_ARGUMENTS = ('data', 'ancdata', 'flags', 'addr')

# Those of a class that has no ``datagram_received`` of its own.
_NOBODYS = (None, asyncio.DatagramProtocol.datagram_received)


def method_of(kind: type) -> str:
    """The name of the method that such a protocol is called by."""
    return next((name for name, arguments in METHODS.items()
                 if takes(kind, name, len(arguments))), 'datagram_received')


def takes_errors(kind: type, family: int) -> bool:
    """Whether such a protocol is given what the error queue has.

    Only IP has one: an AF_UNIX socket that is asked for it gives a datagram.
    """
    return family in (socket.AF_INET, socket.AF_INET6) \
        and takes(kind, ERRQUEUE_METHOD, len(ERRQUEUE_ARGUMENTS))


def takes(kind: type, name: str, count: int) -> bool:
    """Whether a class has that method, for ``count`` arguments.

    asyncio's programs may have a counter of that name, or a method of their own.
    """
    if not callable(getattr(kind, name, None)):
        return False
    method = inspect.getattr_static(kind, name, None)    # a metaclass may answer for it
    # What is no descriptor, a callable object say, is not given the protocol.
    bound = isinstance(method, (staticmethod, classmethod, types.MethodType)) \
        or not hasattr(type(method), '__get__')
    try:
        inspect.signature(getattr(kind, name)).bind(*[None] * (count + (not bound)))
    except TypeError:
        return False
    except ValueError:
        return True              # it does not say what it takes
    return True


def check_methods(protocol: object) -> None:
    """TypeError for a method that was meant to be called, and cannot be so.

    A class that has ``datagram_received`` of its own may be a program's of asyncio, with methods
    of such names for itself.  One that has not would lose whatever comes, without a word.
    """
    kind = type(protocol)
    if getattr(kind, 'datagram_received', None) not in _NOBODYS:
        return
    for name, arguments in {**METHODS, ERRQUEUE_METHOD: ERRQUEUE_ARGUMENTS}.items():
        method = getattr(kind, name, None)
        if callable(method) and not takes(kind, name, len(arguments)):
            raise TypeError(
                f'{kind.__qualname__}.{name} takes {inspect.signature(method)}, '
                f'and is to be called with ({", ".join(arguments)})')


def untold(protocol: object, asked: dict[str, bool | None]) -> str:
    """What nobody is told of what was asked for: a text that says so, or none.

    Drops are counted by the loop in any case.
    """
    names = [f'{name}=True' for name, value in asked.items() if value and name != 'drops']
    if not names:
        return ''
    kind = type(protocol)
    method = method_of(kind)
    if method.endswith('_with_info') or method == 'datagram_msg_received':
        return ''
    return (f'{", ".join(names)}: {kind.__qualname__} is not told, for it has no '
            'datagram_received_with_info(data, addr, info), nor another such method: see '
            'uringloop.DatagramProtocol')


def check_protocol(protocol: object, sock: socket.socket | None) -> None:
    """``check_methods`` for an endpoint's; ``sock`` is closed if nobody else would."""
    try:
        check_methods(protocol)
    except TypeError:
        if sock is not None:
            sock.close()
        raise


def warn_or_abort(text: str, transport: asyncio.DatagramTransport) -> None:
    """Warn whoever waits for the coroutine that calls this; if warnings are errors it ends."""
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        transport.abort()
        raise
