"""``bench datagrams``: how fast datagrams are answered, received and sent.

``rows`` says what is compared; ``measure`` starts servers on processors of their own (``server`` on
a loop, ``udp_serve.c``) and their loads on others (``udp_load.c``), or a sender (``sender``,
``udp_send.c``) and who receives that (``udp_sinks.c``), and compares what they have counted;
``look`` shows it.

Imports what the commands share, and nothing of the other commands.
"""
