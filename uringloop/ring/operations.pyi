"""Operations: what the kernel has been asked to do, and what it may still touch."""

class OperationOwner:
    """What owns operations: told of each completion, later run by the loop."""

    def _deliver(self) -> None: ...

class OperationTable:
    """All operations of one loop, addressed by slot number and generation."""
