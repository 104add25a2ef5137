"""The kernel's side: what io_uring is asked, what it answers, and what it may still touch.

Knows rings, operations, memory and socket addresses; nothing of asyncio.  Imports
``_cpython`` and itself.
"""
