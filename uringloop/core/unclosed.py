"""The warning of what is dropped and was not closed."""
import warnings
from collections.abc import Callable


def warn_of(text: str, source: object, warn: Callable[..., None] = warnings.warn) -> None:
    """ResourceWarning, said to be where the program is just now.

    This is Python code for its frame: what the collector finalizes does so in the midst of
    any other code, also of what has no ``__import__`` (a namedtuple being made), which ``warn``
    needs.
    """
    warn(text, ResourceWarning, 2, source)
