"""``bench everyday``: what programs do besides datagrams.

``tasks`` is what is measured, a function a row; ``worker`` does one of them on one loop, and
``watch`` looks at the clock; ``rows`` and ``measure`` have all loops take turns.
``stream_load.c`` is the other end of servers.

Imports what the commands share, and nothing of the other commands.
"""
