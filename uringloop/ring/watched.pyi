"""Operations on sockets that the program may close at any time."""
from uringloop.ring.operations import OperationOwner

class WatchedSockets:
    """Those of one loop."""

class WatchedSocket(OperationOwner):
    """Owns an operation on a socket of the program's own."""
