"""``bench datagrams``: how fast datagrams are answered and received.

``rows`` says what is compared; ``measure`` starts a server on one processor (``server`` on a loop,
``udp_serve.c``) and its load on another (``udp_load.c``), and compares what they have counted.

Imports what the commands share, and nothing of the other commands.
"""
