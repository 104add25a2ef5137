"""Operations on sockets that the program may close at any time."""
from uringloop.ring.operations import Completer

class Holders:
    """Those of one loop."""

class SocketHolder(Completer):
    """Owns an operation on a socket of the program's own."""
