"""Imported first: refuses subinterpreters.

The extension modules keep state for the whole process (the rings to be closed after a
fork, the number of the last ring), so they belong to the main interpreter.  Without
this, Python 3.12 and newer name one of them and no cure, and older ones let them in.
"""
from __future__ import annotations

import importlib


def refuse_others() -> None:
    """ImportError, unless this is the main interpreter."""
    for name in ('_interpreters', '_xxsubinterpreters'):      # from 3.13 on, and before
        try:
            interpreters = importlib.import_module(name)
        except ImportError:
            continue
        if interpreters.get_current() != interpreters.get_main():
            raise ImportError('uringloop cannot be used in a subinterpreter: '
                              'import and run it in the main interpreter', name='uringloop')
        return


refuse_others()
