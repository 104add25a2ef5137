"""What a loop and its endpoints may be asked for, by arguments and by the environment."""
from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Mapping
from typing import Any

from uringloop.ring.features import check_features


def check_switches(**switches: bool | None) -> None:
    """ValueError for what is no such option."""
    for name, value in switches.items():
        if value is not None and not isinstance(value, bool):
            raise ValueError(f'{name} must be True, False or None, not {value!r}')


# In the environment of a process: 0 or 1, or nothing.
SWITCHES = ('URINGLOOP_REQUIRE', 'URINGLOOP_DISABLE', 'URINGLOOP_BATCH', 'URINGLOOP_GRO')


def switch(name: str, otherwise: bool) -> bool:
    """What a switch in the environment says; ValueError if nobody can know what it means."""
    value = os.environ.get(name, '')
    if value not in ('', '0', '1'):
        raise ValueError(f'{name} must be 0 or 1, not {value!r}')
    return value == '1' if value else otherwise


def check_options(
        entries: int, busy_poll: float, batch: bool | None = None,
        gro: bool | None = None) -> None:
    """ValueError for what no loop can be made with."""
    check_features()
    for name in SWITCHES:
        switch(name, False)
    check_switches(batch=batch, gro=gro)
    if not isinstance(entries, int) or not 1 <= entries <= 32768:
        raise ValueError(f'entries must be an integer from 1 to 32768, not {entries!r}')
    if not isinstance(busy_poll, (int, float)) or not 0 <= busy_poll <= 1000:
        raise ValueError(f'busy_poll must be 0 to 1000 microseconds, not {busy_poll!r}')


# Of asyncio's, in this version of Python.
_ENDPOINT_OPTIONS = inspect.signature(asyncio.SelectorEventLoop.create_datagram_endpoint).parameters


def check_names(options: Mapping[str, Any]) -> None:
    """TypeError for what is no option of an endpoint; Python would name asyncio's method."""
    for name in options:
        if name not in _ENDPOINT_OPTIONS:
            raise TypeError(
                f'create_datagram_endpoint() got an unexpected keyword argument {name!r}')
