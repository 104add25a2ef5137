"""asyncio's own loop with this one's further API, for where io_uring cannot be had.

All is copied, so that a program is written once.  Imports ``loop``, ``datagram``, ``memory``,
``core`` and ``ring``, and of none of them what needs a ring.
"""
