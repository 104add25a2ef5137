"""Trains: datagrams that lie side by side in memory, and leave as one send (UDP_SEGMENT)."""
from typing import SupportsIndex

def check_segment_size(value: SupportsIndex | None) -> int:
    """A program's ``segment_size`` as a number; 0 if it gives none."""
