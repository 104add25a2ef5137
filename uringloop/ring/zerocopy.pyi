"""Whether a send goes zero-copy: when that pays, and what paths have reported."""
from typing import NamedTuple

class SendReport(NamedTuple):
    """What became of a zero-copy send.

    ``nbytes`` were sent.  ``copied`` says whether the kernel copied them after
    all; None where it can't tell (before Linux 6.2).
    """

    nbytes: int
    copied: bool | None

class PathReports:
    """What one datagram transport, or a loop for all else, has learned about destinations."""
