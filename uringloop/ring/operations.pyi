"""Operations: what the kernel has been asked to do, and what it may still touch."""

class OperationOwner:
    """What owns operations: told of each completion, later run by the loop."""

    def _deliver(self) -> None: ...

class OperationTable:
    """All operations of one loop, addressed by slot number and generation."""

    @property
    def live(self) -> int:
        """Acquired and not yet released."""
    @property
    def in_flight(self) -> int:
        """With a completion or a notification outstanding."""
    @property
    def pinned(self) -> int:
        """Bytes in use by zero-copy sends."""
    @property
    def unknown(self) -> int:
        """Completions of no known operation."""
