"""``python -m uringloop bench``: how fast datagrams leave, next to C and to other loops.

A run goes this way: ``command`` reads the options, ``rows`` says what is compared, ``namespace``
makes a network that drops everything, ``native`` compiles the C senders, ``measure`` has all
senders take turns, each in a process of its own (``sender`` and ``ways`` are what Python runs
there), ``results`` keeps the figures, and ``report``, ``plot`` and ``png`` show them.

Imports the public face of the package only.
"""
