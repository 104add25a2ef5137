"""Imported first: says why this cannot be imported, where that is known, and what to do."""
from __future__ import annotations

import importlib
import sys


def refuse_subinterpreters() -> None:
    """ImportError, unless this is the main interpreter.

    The extension modules keep state for the whole process (the rings to be closed after a
    fork, the number of the last ring), so they belong to that.  Without this, Python 3.12 and
    newer name one of them and no cure, and older ones let them in.
    """
    for name in ('_interpreters', '_xxsubinterpreters'):      # from 3.13 on, and before
        try:
            interpreters = importlib.import_module(name)
        except ImportError:
            continue
        if interpreters.get_current() != interpreters.get_main():
            raise ImportError('uringloop cannot be used in a subinterpreter: '
                              'import and run it in the main interpreter', name='uringloop')
        return


def refuse_sources() -> None:
    """ImportError, unless the modules are compiled for this Python.

    Whoever has installed it and is still in the clone has that imported, by ``python -c`` or
    ``-m``, which look in the current folder first.
    """
    try:
        importlib.import_module('uringloop._cpython')
    except ModuleNotFoundError as exc:
        if exc.name != 'uringloop._cpython':
            raise
        version = '.'.join(map(str, sys.version_info[:2]))
        raise ImportError(
            f'uringloop: the sources of {__file__} are not compiled for Python {version}: start '
            f'Python in another folder to have what pip has installed, or run '
            f'"make build PYTHON=python{version}" here', name='uringloop') from None


refuse_subinterpreters()
refuse_sources()
