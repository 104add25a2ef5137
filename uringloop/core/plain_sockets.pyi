"""Which sockets the ring may serve by their descriptor."""
from socket import socket

PLAIN_SOCKET: type[socket]
TRAFFIC: tuple[str, ...]

def is_plain_socket(sock: object) -> bool:
    """Whether the ring may serve it; else asyncio's way, which asks the object."""
