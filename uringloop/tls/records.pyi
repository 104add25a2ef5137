"""The half of asyncio's TLS protocol that each message passes."""
from asyncio import sslproto

from _typeshed import ReadableBuffer

class RecordFlow:
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...

class SSLTransport(sslproto._SSLProtocolTransport):
    def write(self, data: ReadableBuffer) -> None: ...
