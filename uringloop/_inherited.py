"""Notices where asyncio's inside is not the one that is known.

``Loop`` replaces private methods of asyncio's loop, and calls others.  Another version of
Python may give them other arguments, and what comes of that may be a connection that ends
without a word.  So it is said once, when the package is imported.
"""
from __future__ import annotations

import sys
import warnings
from asyncio import SelectorEventLoop, base_events, events, selector_events, sslproto, unix_events
from types import CodeType

_TIMEOUTS = 'ssl_handshake_timeout ssl_shutdown_timeout'

# The arguments of each, in Python 3.10 to 3.15; some came later than others.
OF_THE_LOOP = {
    '_accept_connection2': f'protocol_factory conn extra sslcontext server {_TIMEOUTS} context',
    '_add_callback': 'handle',
    '_add_reader': 'fd callback context',
    '_add_writer': 'fd callback context',
    '_asyncgen_finalizer_hook': 'agen',
    '_asyncgen_firstiter_hook': 'agen',
    '_check_callback': 'callback method',
    '_check_closed': '',
    '_check_running': '',
    '_check_thread': '',
    '_close_self_pipe': '',
    '_create_connection_transport':
        f'sock protocol_factory ssl server_hostname server_side {_TIMEOUTS} context',
    '_ensure_fd_no_transport': 'fd',
    '_make_datagram_transport': 'sock protocol address waiter extra',
    '_make_read_pipe_transport': 'pipe protocol waiter extra',
    '_make_self_pipe': '',
    '_make_socket_transport': 'sock protocol waiter extra server context',
    '_make_ssl_transport': 'rawsock protocol sslcontext waiter server_side server_hostname extra '
                           f'server {_TIMEOUTS} context',
    '_make_subprocess_transport': 'protocol args shell stdin stdout stderr bufsize extra',
    '_make_write_pipe_transport': 'pipe protocol waiter extra',
    '_process_self_data': 'data',
    '_read_from_self': '',
    '_remove_reader': 'fd',
    '_remove_writer': 'fd',
    '_run_once': '',
    '_set_coroutine_origin_tracking': 'enabled',
    '_start_serving': f'protocol_factory sock sslcontext server backlog {_TIMEOUTS} context',
    '_stop_serving': 'sock',
    '_timer_handle_cancelled': 'handle',
    '_write_to_self': '',
}
OF_OTHERS: dict[tuple[type, str], str] = {
    (events.Handle, '__init__'): 'callback args loop context',
    (events.TimerHandle, '__init__'): 'when callback args loop context',
    (base_events.Server, '_attach'): 'transport',
    (base_events.Server, '_detach'): 'transport',
    (sslproto.SSLProtocol, '__init__'):
        'loop app_protocol sslcontext waiter server_side server_hostname call_connection_made '
        f'{_TIMEOUTS}',
    (selector_events._SelectorDatagramTransport, '__init__'):  # type: ignore[attr-defined]
        'loop sock protocol address waiter extra',
    (selector_events._SelectorSocketTransport, '__init__'):  # type: ignore[attr-defined]
        'loop sock protocol waiter extra server context',
    (unix_events._UnixSubprocessTransport, '__init__'):  # type: ignore[attr-defined]
        'loop protocol args shell stdin stdout stderr bufsize waiter extra',
}
# The busy half of which `tls.records` replaces, and calls the other one.
OF_TLS = {
    '_call_eof_received': 'exc',
    '_control_app_writing': '',
    '_control_ssl_reading': '',
    '_do_flush': '',
    '_do_handshake': '',
    '_do_read': '',
    '_do_read__buffered': '',
    '_do_shutdown': '',
    '_do_write': '',
    '_fatal_error': 'exc message',
    '_get_app_transport': '',
    '_process_outgoing': '',
    '_start_shutdown': '',
    '_write_appdata': 'list_of_data',
    'buffer_updated': 'nbytes',
    'get_buffer': 'n',
}
if sys.version_info >= (3, 11):
    OF_OTHERS |= {(sslproto.SSLProtocol, name): names for name, names in OF_TLS.items()}


def unknown_changes() -> list[str]:
    """What asyncio has otherwise than is known, one sentence each."""
    found = []
    known = [((SelectorEventLoop, name), names) for name, names in OF_THE_LOOP.items()]
    for (kind, name), names in [*known, *OF_OTHERS.items()]:
        method = getattr(kind, name, None)
        code = getattr(method, '__code__', None)
        if method is None:
            found.append(f'{kind.__name__}.{name} is gone')
        elif isinstance(code, CodeType):       # else the program has put something there
            count = code.co_argcount + code.co_kwonlyargcount
            new = [argument for argument in code.co_varnames[1:count]
                   if argument not in names.split()]
            if new:
                found.append(f"{kind.__name__}.{name} has a new argument: {', '.join(new)}")
    return found


def warn_of_changes() -> None:
    """Warn, if there are any."""
    found = unknown_changes()
    if found:
        warnings.warn(
            f"uringloop does not know the asyncio of Python {sys.version.split()[0]}, and may "
            f"fail with it: {'; '.join(found)}. Is there a newer uringloop?",
            RuntimeWarning, stacklevel=2)
