"""Stream transports, and the acceptor of a listening socket.

Imports ``transport`` and what is below that.
"""
