"""asyncio's ``sock_*`` methods: operations on sockets that the program keeps.

Imports ``core``, ``ring`` and ``_cpython``.
"""
