"""The receiving half of a datagram transport."""
from uringloop._receiving import Receiver

class DatagramReceiver(Receiver):
    """Receives by one multishot operation, or long datagrams one by one."""
