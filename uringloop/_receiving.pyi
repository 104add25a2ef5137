"""The receiving half of a datagram transport."""
from uringloop._transports import SocketTransport

class DatagramReceiver(SocketTransport):
    """Receives by one multishot operation, or long datagrams one by one."""
