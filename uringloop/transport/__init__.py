"""What datagram and stream transports share.

Imports ``core``, ``ring`` and ``_cpython``.
"""
