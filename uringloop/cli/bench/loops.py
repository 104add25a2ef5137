"""Event loops by name."""
from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util

from uringloop import UringUnavailableError
from uringloop.cli.bench.process import MissingError

OWN = 'uringloop'
# Those that are compared if they are installed; asyncio always is.
KNOWN = ('asyncio', 'uvloop', 'rloop', 'uringcore')


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """A loop of asyncio, of a module that makes loops, or of MODULE:CALLABLE."""
    if name == 'asyncio':
        return asyncio.SelectorEventLoop()
    module_name, _, attribute = name.partition(':')
    module = importlib.import_module(module_name)
    loop: asyncio.AbstractEventLoop
    if not attribute and not hasattr(module, 'new_event_loop'):
        loop = module.EventLoopPolicy().new_event_loop()      # all that some have
    else:
        loop = getattr(module, attribute or 'new_event_loop')()
    return loop


def loop_of(name: str) -> asyncio.AbstractEventLoop:
    """The same; MissingError if it cannot be had here."""
    try:
        return new_loop(name)
    except (ImportError, AttributeError, UringUnavailableError) as error:
        raise MissingError(getattr(error, 'strerror', None) or str(error)) from None


def missing(name: str) -> str:
    """Why there is no such loop; empty if there is."""
    try:
        new_loop(name).close()
    except (ImportError, AttributeError) as error:
        return str(error)
    return ''


def installed(name: str) -> bool:
    """Whether the module is there; does not import it."""
    try:
        return importlib.util.find_spec(name.partition(':')[0]) is not None
    except (ImportError, ValueError):
        return False


def version(name: str) -> str:
    """What its distribution says; empty if it is part of Python, or nobody knows."""
    try:
        return importlib.metadata.version(name.partition(':')[0])
    except importlib.metadata.PackageNotFoundError:
        return ''
