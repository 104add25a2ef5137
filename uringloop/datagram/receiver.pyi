"""The receiving half of a datagram transport."""
from uringloop.transport.receiver import Receiver

class DatagramReceiver(Receiver):
    """Receives by one multishot operation, or long datagrams one by one."""
