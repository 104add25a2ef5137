"""What of asyncio's inside this loop replaces or calls: whether it is what is expected."""
import asyncio
import inspect
from asyncio import sslproto

import pytest

import uringloop
from uringloop import _inherited


def replaced():
    """The private methods of asyncio's loop that this one has methods of its own for."""
    return sorted({
        name for kind in uringloop.Loop.__mro__ if kind.__module__.startswith('uringloop')
        for name in vars(kind)
        if name.startswith('_') and not name.startswith('__')
        and callable(getattr(asyncio.SelectorEventLoop, name, None))})


def test_every_signature_is_known():
    assert _inherited.unknown_changes() == []


def test_all_that_is_replaced_is_watched():
    assert set(replaced()) <= set(_inherited.OF_THE_LOOP)


@pytest.mark.parametrize('name', replaced())
def test_takes_what_asyncios_takes(name):
    theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters
    ours = inspect.signature(getattr(uringloop.Loop, name)).parameters
    kinds = [parameter.kind for parameter in ours.values()]
    rest = [argument for argument in theirs if argument not in ours]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        assert rest == []
    # By position, those that go there.
    at_places = [argument for argument, parameter in theirs.items()
                 if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        assert at_places == list(ours)[:len(at_places)]


def test_a_new_argument_is_told_at_import(monkeypatch):
    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, flavour=None):
        pass

    monkeypatch.setattr(
        asyncio.SelectorEventLoop, '_make_socket_transport', _make_socket_transport)
    with pytest.warns(RuntimeWarning, match=r'_make_socket_transport has a new argument: flavour'):
        _inherited.warn_of_changes()


def test_what_is_gone_is_told(monkeypatch):
    monkeypatch.delattr(sslproto.SSLProtocol, '__init__')
    monkeypatch.delattr(asyncio.selector_events.BaseSelectorEventLoop, '_read_from_self')
    with pytest.warns(RuntimeWarning, match=r'_UnixSelectorEventLoop\._read_from_self is gone'):
        _inherited.warn_of_changes()


def test_what_a_program_has_patched_is_its_own_affair(monkeypatch):
    monkeypatch.setattr(asyncio.SelectorEventLoop, '_add_reader', print)
    assert _inherited.unknown_changes() == []
