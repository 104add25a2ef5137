"""Datagram transports: how a datagram leaves, and how one comes.

Imports ``transport`` and what is below that.
"""
