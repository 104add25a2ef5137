"""``python -m uringloop bench``: how fast this loop is, next to C and to other loops.

A command that measures is a ``suite``, a folder of its own: ``zerocopy``, ``datagrams``,
``everyday``. Its rows (``rows``) say what is compared; ``turns`` has all take turns, each time in
new processes (``process``), with programs in C that ``native`` compiles; ``results`` keeps the
figures, and ``report``, ``plot``, ``picture`` and ``png`` show them as the suite's ``look`` has
it. ``command`` reads the options.

Imports the public face of the package only.
"""
