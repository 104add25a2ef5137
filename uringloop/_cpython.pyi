"""What is assumed of CPython's inside: each assumption, how it is checked, and the way without."""
from typing import Any

def attributes_of(self: object) -> dict[str, Any]: ...
