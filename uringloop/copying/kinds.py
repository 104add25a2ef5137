"""Classes that test clocks (looptime) make of what a loop seems to be, and put in its place."""
from __future__ import annotations

from functools import update_wrapper
from types import CellType, FunctionType
from typing import Any

from uringloop.loop import Loop


def made_of(fallback: type, kind: Any) -> Any:
    """A class that is made of ``Loop``, made of the fallback's instead."""
    if kind is Loop:
        return fallback
    if not issubclass(kind, Loop):
        return kind
    if '_of_the_fallback' not in vars(kind):
        cell = CellType()
        own = {name: _goes_by(cell, value) for name, value in vars(kind).items()
               if name not in ('__dict__', '__weakref__')}
        bases = tuple(made_of(fallback, base) for base in kind.__bases__)
        cell.cell_contents = type(kind)(kind.__name__, bases, own | {'_seems': kind})
        kind._of_the_fallback = cell.cell_contents
    return kind._of_the_fallback


def _goes_by(cell: CellType, value: Any) -> Any:
    """A method whose ``super()`` goes by that cell, if it has such a thing."""
    if not isinstance(value, FunctionType) or '__class__' not in value.__code__.co_freevars:
        return value
    closure = tuple(cell if name == '__class__' else each for name, each in zip(
        value.__code__.co_freevars, value.__closure__ or (), strict=True))
    method = FunctionType(
        value.__code__, value.__globals__, value.__name__, value.__defaults__, closure)
    method.__kwdefaults__ = value.__kwdefaults__
    return update_wrapper(method, value)
