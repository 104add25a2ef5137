"""Which kernel this is, for what it refuses if it does not know it."""
from __future__ import annotations

import os
import re

# Two numbers, as in (6, 17).
KERNEL = tuple(map(int, re.findall(r'\d+', os.uname().release)[:2]))
