"""Pipe transports.

Imports ``core`` and what is below that.
"""
