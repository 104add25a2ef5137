"""TLS: the standard library's, whose records pass between ``ssl`` and the transport natively.

Imports nothing of this package; ``stream`` knows its ``records``.
"""
