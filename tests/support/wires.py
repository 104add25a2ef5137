"""Peers at the far end of a ``namespaces.Wire``."""
import socket

from tests.support.protocols import endpoint
from tests.support.sockets import SO_RCVBUFFORCE


async def roomy_peer(wire):
    """An endpoint at the far end, which has room for all that may come."""
    sock = wire.far.socket(address=wire.peer)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    return await endpoint(sock=sock)
