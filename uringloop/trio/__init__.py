"""trio on this loop: ``run``, datagram endpoints for trio's tasks, asyncio's awaitables in them.

Parts: ``hosting`` (``run``), ``ticks`` (when trio has its turn), ``bridge`` (what is asyncio's, for
a trio task), ``endpoint``.  Imports the loop and its policy; ``import trio`` means trio itself.
"""
try:
    import trio as _trio  # noqa: F401
except ModuleNotFoundError as _missing:
    if _missing.name != 'trio':
        raise
    raise ImportError('uringloop.trio needs trio: pip install trio', name='trio') from None

from uringloop.trio.bridge import run_asyncio
from uringloop.trio.endpoint import DatagramEndpoint, open_datagram_endpoint
from uringloop.trio.hosting import run

__all__ = ['DatagramEndpoint', 'open_datagram_endpoint', 'run', 'run_asyncio']
