"""Transports whose constructor was not called, as a subclass that forgets it has them."""
import asyncio
import contextlib

import pytest

import uringloop
from uringloop.pipe.reading import ReadPipeTransport
from uringloop.pipe.writing import WritePipeTransport
from uringloop.stream.transport import StreamTransport


class Forgetful(uringloop.DatagramTransport):

    def __init__(self):
        pass


@pytest.mark.parametrize('closing', [False, True])
@pytest.mark.parametrize('kind', [
    uringloop.DatagramTransport, StreamTransport, ReadPipeTransport, WritePipeTransport, Forgetful])
def test_nothing_crashes(kind, closing):
    """Each method does nothing, or raises."""
    arguments = {
        'sendto': (b'x', ('127.0.0.1', 9)), 'sendto_zerocopy': (b'x', ('127.0.0.1', 9)),
        'write': (b'x',), 'writelines': ([b'x'],), 'get_extra_info': ('socket',),
        'set_protocol': (asyncio.Protocol(),), '_force_close': (None,), '_start_reading': (None,),
        '_call_connection_lost': (None,), '_fatal_error': (ValueError('mine'),),
        '_set_batching': (True,)}
    transport = kind.__new__(kind)
    with contextlib.suppress(AttributeError):        # of pipes it is not to be assigned
        transport._closing = closing
    called = 0
    for name in dir(transport):
        if name.startswith('__') and name != '__repr__':
            continue
        try:
            method = getattr(transport, name)
            if callable(method) and not isinstance(method, type):
                method(*arguments.get(name, ()))
                called += 1
        except (AttributeError, RuntimeError, ValueError, NotImplementedError, TypeError):
            continue
    assert called > 6


def test_says_what_is_missing():
    with pytest.raises(RuntimeError, match=r'__init__\(\) was not called'):
        Forgetful().sendto(b'x', ('127.0.0.1', 9))
