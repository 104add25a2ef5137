"""Steps that connections take, and what all transports have in common."""
from __future__ import annotations

import contextlib
from typing import Any

from tests.simulation.ledger import Flow
from tests.simulation.protocols import BufferedProtocol, Checked, MischiefError, StreamProtocol

PIECES = (1, 100, 3000, 16384, 70000, 200000)


class StreamSteps:
    """Of ``Play``."""

    def open_streams(self) -> list[StreamProtocol]:
        return [each for each in self.protocols
                if isinstance(each, StreamProtocol) and each.state == 'made'
                and not each.transport.is_closing()]

    def any_stream(self, number: int) -> Any:
        found = self.open_streams()
        return found[number % len(found)] if found else None

    def any_open(self, number: int) -> Any:
        found = self.open_streams() + self.open_endpoints()
        return found[number % len(found)] if found else None

    def know_stream(self, protocol: StreamProtocol) -> None:
        """Find the flows of a connection: its two ends have each other's names."""
        if protocol.sends is not None:
            return
        own = protocol.transport.get_extra_info('sockname')
        peer = protocol.transport.get_extra_info('peername')
        protocol.sends, protocol.receives = self.flow(own, peer), self.flow(peer, own)

    def flow(self, sender: Any, receiver: Any) -> Flow:
        """What goes from one name to the other."""
        key = sender, receiver
        if key not in self.flows:
            self.flows[key] = Flow(len(self.flows), self.fail)
        return self.flows[key]

    def new_stream(self, buffered: int) -> StreamProtocol:
        kind = BufferedProtocol if buffered % 4 == 0 else StreamProtocol
        return kind(self, f'stream {len(self.protocols)}')

    async def step_server(self, buffered: int, *_: int) -> None:
        if len(self.servers) == 3:
            return
        self.servers.append(await self.loop.create_server(
            lambda: self.new_stream(buffered), '127.0.0.1', 0))

    async def step_connect(self, which: int, buffered: int, *_: int) -> None:
        if not self.servers:
            await self.step_server(buffered + 1)
        server = self.servers[which % len(self.servers)]
        if not server.sockets:
            return
        host, port = server.sockets[0].getsockname()
        self.spawn(self.connect(host, port, buffered))

    async def connect(self, host: str, port: int, buffered: int) -> None:
        try:
            await self.loop.create_connection(lambda: self.new_stream(buffered), host, port)
        except OSError as exc:
            self.expected(exc)

    def step_write(self, which: int, size: int, count: int, kind: int, _: int) -> None:
        stream = self.any_stream(which)
        if stream is None or stream.wrote_eof:
            return
        self.know_stream(stream)
        for _each in range((1, 1, 3, 10)[count % 4]):
            if stream.transport.is_closing():
                return
            data = stream.sends.piece(PIECES[size % len(PIECES)])
            if kind % 3 == 0:
                data = bytearray(data)
            stream.transport.write(data)
            if type(data) is bytearray:
                data[:] = bytes(len(data))

    def step_write_lines(self, which: int, size: int, count: int, *_: int) -> None:
        stream = self.any_stream(which)
        if stream is None or stream.wrote_eof:
            return
        self.know_stream(stream)
        stream.transport.writelines(
            [stream.sends.piece(PIECES[(size + i) % 4]) for i in range(count % 70)])

    def step_write_eof(self, which: int, *_: int) -> None:
        stream = self.any_stream(which)
        if stream is not None and not stream.wrote_eof:
            self.write_eof(stream)

    def write_eof(self, stream: StreamProtocol) -> None:
        self.know_stream(stream)
        stream.wrote_eof = True
        with contextlib.suppress(OSError):       # it was reset just now
            stream.transport.write_eof()

    # -- of all transports ---------------------------------------------------------------------

    def step_pause(self, which: int, *_: int) -> None:
        protocol = self.any_open(which)
        if protocol is not None:
            protocol.transport.pause_reading()

    def step_resume(self, which: int, *_: int) -> None:
        protocol = self.any_open(which)
        if protocol is not None:
            protocol.transport.resume_reading()

    def step_limits(self, which: int, high: int, *_: int) -> None:
        protocol = self.any_open(which)
        if protocol is not None:
            protocol.transport.set_write_buffer_limits(high=(0, 100, 5000, 65536)[high % 4])

    def step_close(self, which: int, *_: int) -> None:
        protocol = self.any_open(which)
        if protocol is not None:
            protocol.close()

    def step_abort(self, which: int, *_: int) -> None:
        protocol = self.any_open(which)
        if protocol is not None:
            protocol.close(abort=True)

    def step_react(self, which: int, how: int, *_: int) -> None:
        """Have a protocol do something when it next receives."""
        protocol = self.any_open(which)
        if protocol is not None:
            protocol.reactions.append(
                ('raise', 'close', 'abort', 'pause', 'answer', 'answer', 'answer', 'turn',
                 'zerocopy', 'interrupt')[how % 10])

    def react(self, protocol: Checked, how: str) -> None:
        """Within a callback of the protocol's."""
        self.mischief += how == 'raise'
        if how == 'raise':
            raise MischiefError
        if how == 'interrupt':
            self.loop.stop()
        elif how == 'pause':
            protocol.transport.pause_reading()
            self.loop.call_later(0.01, protocol.transport.resume_reading)
        elif how == 'turn':
            self.loop.call_soon(self.step_close, 0)
        elif how in ('close', 'abort'):
            protocol.close(abort=how == 'abort')
        elif isinstance(protocol, StreamProtocol):
            streams = self.open_streams()
            if protocol in streams:
                self.step_write(streams.index(protocol), 2, 0, 1, 0)
        elif protocol in self.open_endpoints():
            place = self.open_endpoints().index(protocol)
            step = self.step_send_zerocopy if how == 'zerocopy' else self.step_send
            step(place, 0, 3, 2, 1)
