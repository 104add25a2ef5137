"""Memory that programs send from: buffer pools with their leases, and registered buffers.

Imports ``core`` and ``ring``.
"""
