"""An asyncio event loop on io_uring that sends datagrams without copying them."""
from uringloop import _importable as _importable  # isort: skip
from uringloop import policy
from uringloop.datagram.metadata import DatagramInfo
from uringloop.datagram.protocol import DatagramProtocol
from uringloop.datagram.transport import DatagramTransport
from uringloop.loop import Loop
from uringloop.memory.leases import Lease
from uringloop.memory.pools import BufferPool
from uringloop.memory.registered import RegisteredBuffer
from uringloop.policy import install, new_event_loop, run
from uringloop.ring.unavailable import UringUnavailableError
from uringloop.ring.zerocopy import SendReport
from uringloop.stats import LoopStats

__version__ = '0.1.0'

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

if hasattr(policy, 'EventLoopPolicy'):
    EventLoopPolicy = policy.EventLoopPolicy
else:
    __all__.remove('EventLoopPolicy')


def __getattr__(name: str) -> object:
    if name == 'EventLoopPolicy':
        raise AttributeError(policy.NO_POLICIES)
    if name == 'trio':
        raise AttributeError("module 'uringloop' has no attribute 'trio' yet: "
                             'import uringloop.trio first')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
