"""``bench zerocopy``: how fast datagrams leave.

``rows`` says what is compared, ``namespace`` makes a network that drops everything, ``measure``
starts each sender (``sender`` and ``ways`` are what Python runs, ``socket_send.c`` and
``ring_send.c`` what C does) and asks the device what it has taken; ``look`` shows the figures.

Imports what the commands share, and nothing of the other commands.
"""
