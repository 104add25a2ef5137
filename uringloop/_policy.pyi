"""Whether a send goes zero-copy: the one predicate, and what paths have reported."""

class CopyMemory:
    """What one socket has learned about its destinations."""
