"""What the receiving halves of datagram and stream transports have in common."""
from uringloop.transport.socket_transport import SocketTransport

class Receiver(SocketTransport):
    """Receives by one multishot operation, or one by one."""
