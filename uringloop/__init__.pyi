"""An asyncio event loop on io_uring that sends datagrams without copying them."""
import asyncio

from uringloop.datagram.metadata import DatagramInfo as DatagramInfo
from uringloop.datagram.protocol import DatagramProtocol as DatagramProtocol
from uringloop.datagram.transport import DatagramTransport as DatagramTransport
from uringloop.loop import Loop as Loop
from uringloop.memory.leases import Lease as Lease
from uringloop.memory.pools import BufferPool as BufferPool
from uringloop.memory.registered import RegisteredBuffer as RegisteredBuffer
from uringloop.policy import install as install
from uringloop.policy import new_event_loop as new_event_loop
from uringloop.policy import run as run
from uringloop.ring.unavailable import UringUnavailableError as UringUnavailableError
from uringloop.ring.zerocopy import SendReport as SendReport
from uringloop.stats import LoopStats as LoopStats

__version__: str

__all__ = [
    'BufferPool',
    'DatagramInfo',
    'DatagramProtocol',
    'DatagramTransport',
    'EventLoopPolicy',
    'Lease',
    'Loop',
    'LoopStats',
    'RegisteredBuffer',
    'SendReport',
    'UringUnavailableError',
    'install',
    'new_event_loop',
    'run',
]

# Where asyncio has policies: they are deprecated from Python 3.14 on.
class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """An event loop policy whose loops are on io_uring."""
