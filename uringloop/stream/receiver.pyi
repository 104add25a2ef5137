"""The receiving half of a stream transport."""
from uringloop.transport.receiver import Receiver

class StreamReceiver(Receiver):
    """Receives by one multishot operation, or bulk one by one."""

    def feed_eof(self) -> None: ...
