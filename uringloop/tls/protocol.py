"""asyncio's TLS protocol with its busy half compiled."""
from __future__ import annotations

import sys
from asyncio import sslproto
from typing import Any

from uringloop.tls.records import RecordFlow, SSLTransport

if sys.version_info >= (3, 11):

    class SSLProtocol(RecordFlow, sslproto.SSLProtocol):
        """asyncio's ``SSLProtocol``; see ``records``."""

        # Of the buffer that asyncio makes for each connection.  A transport of this loop receives
        # into memory that all share, and for another one get_buffer() makes one.
        max_size = 0

        def _get_app_transport(self) -> Any:
            if self._app_transport is None and not self._app_transport_created:
                self._app_transport = SSLTransport(self._loop, self)
                self._app_transport_created = True
            return super()._get_app_transport()  # type: ignore[misc]

else:
    SSLProtocol = sslproto.SSLProtocol
