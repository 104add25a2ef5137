"""What rings that are closed, but not proved dead, may still touch."""
from uringloop._operations import OperationTable

graveyard: list[tuple[int, OperationTable, int, list[object]]]

def hung_up(witness: int, bound: float) -> bool:
    """Whether the other end of ``witness`` is closed, within ``bound`` seconds."""

def keep(witness: int, operations: OperationTable, era: int, memory: list[object]) -> None:
    """Keep what the ring number ``era`` may touch, until ``witness`` sees the hang-up."""

def bury(own: OperationTable | None = None) -> None:
    """Let go of what was kept for rings that are proved dead by now."""
