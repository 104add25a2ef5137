"""What an event loop consists of: ready queue, timers, handles, turns.

Knows that there are transports, which it runs and flushes, but none of them.  Imports
``ring`` and ``_cpython``.
"""
