"""Steps with memory that is lent: pools, leases, registered buffers; and plain sockets."""
from __future__ import annotations

import socket
from typing import Any

from tests.simulation.programs import SIZES


class MemorySteps:
    """Of ``Play``."""

    def step_pool(self, count: int, size: int, *_: int) -> None:
        if len(self.pools) < 3:
            self.pools.append(self.loop.create_buffer_pool(
                (1, 1, 2, 8)[count % 4], (1200, 9000, 60000)[size % 3]))

    def step_lease(self, which: int, to: int, parts: int, keep: int, way: int) -> None:
        """Fill a lease, send it, whole or in parts, and release it; at once, or later."""
        endpoint = self.any_endpoint(which)
        if endpoint is None:
            return
        if not self.pools:
            self.step_pool(parts, way)
        pool = self.pools[which % len(self.pools)]
        for _each in range(1 + keep % 4):        # as long as there are free ones
            try:
                lease = pool.acquire_nowait()
            except (BufferError, RuntimeError):
                return                           # all are out, or it is closed
            self.send_lease(endpoint, lease, to, parts, way)
            if keep % 3:
                lease.release()
            else:
                self.leases.append(lease)
            if endpoint.transport.is_closing():
                return

    def send_lease(self, endpoint: Any, lease: Any, to: int, parts: int, way: int) -> None:
        view = memoryview(lease)
        count = 1 + parts % 4
        size = len(view) // count
        address = self.address(endpoint, to)
        for i in range(count):
            view[i * size:(i + 1) * size] = self.ledger.datagram(endpoint.identity, size)
        for i in range(count):
            part = lease[i * size:(i + 1) * size] if count > 1 else lease
            self.attempted += 1
            if way % 2:
                endpoint.transport.sendto(part, address)
            else:
                self.promised(endpoint.transport.sendto_zerocopy(part, address))
            if endpoint.transport.is_closing():
                break
        view.release()

    def step_release(self, which: int, *_: int) -> None:
        if self.leases:
            self.leases.pop(which % len(self.leases)).release()

    def step_acquire(self, which: int, to: int, count: int, *_: int) -> None:
        if self.pools:
            self.spawn(self.acquire(self.pools[which % len(self.pools)], which, to))

    async def acquire(self, pool: Any, which: int, to: int) -> None:
        try:
            lease = await pool.acquire()
        except RuntimeError:
            return                       # it was closed
        try:
            endpoint = self.any_endpoint(which)
            if endpoint is not None:
                self.send_lease(endpoint, lease, to, 0, 1)
        finally:
            lease.release()

    def step_close_pool(self, which: int, *_: int) -> None:
        if self.pools:
            self.closing_pools.append(self.pools.pop(which % len(self.pools)).close())

    # -- memory of the program's own -------------------------------------------------------------

    def step_register(self, size: int, *_: int) -> None:
        if len(self.registered) == 4:
            return
        memory = bytearray((4096, 65536)[size % 2])
        try:
            self.registered.append((self.loop.register_buffer(memory), memory, set()))
        except OSError as exc:
            self.expected(exc)

    def step_send_registered(self, which: int, to: int, size: int, start: int, *_: int) -> None:
        endpoint = self.any_endpoint(which)
        if endpoint is None or not self.registered:
            return
        _registration, memory, used = self.registered[size % len(self.registered)]
        length = min(SIZES[size % len(SIZES)], len(memory) // 2)
        begin = start % (len(memory) - length)
        if any(begin < end and other < begin + length for other, end in used):
            return                       # the kernel may have it still
        memory[begin:begin + length] = self.ledger.datagram(endpoint.identity, length)
        self.attempted += 1
        future = endpoint.transport.sendto_zerocopy(
            memoryview(memory)[begin:begin + length], self.address(endpoint, to))
        used.add((begin, begin + length))
        self.promised(future)

        def done(_: Any) -> None:
            if not future.cancelled():
                used.discard((begin, begin + length))
                memory[begin:begin + length] = b'\xee' * length

        future.add_done_callback(done)

    def step_unregister(self, which: int, *_: int) -> None:
        if self.registered:
            self.closing_pools.append(self.registered.pop(which % len(self.registered))[0].close())

    # -- sockets of the program's own ------------------------------------------------------------

    def step_sock_pair(self, *_: int) -> None:
        if len(self.sockets) == 6:
            return
        for _each in range(2):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(('127.0.0.1', 0))
            self.sockets.append((sock, self.ledger.new_sender(ordered=False)))

    def of(self, sock: socket.socket, future: Any) -> None:
        self.of_sockets.setdefault(sock, []).append(future)

    def any_socket(self, number: int) -> Any:
        if not self.sockets:
            self.step_sock_pair()
        return self.sockets[number % len(self.sockets)]

    def step_sock_send(self, which: int, to: int, size: int, kind: int, *_: int) -> None:
        sock, identity = self.any_socket(which)
        data: Any = self.ledger.datagram(identity, SIZES[size % len(SIZES)])
        if kind % 2:
            data = bytearray(data)
        self.of(sock, self.spawn(self.sock_send(sock, data, self.destination(to))))

    async def sock_send(self, sock: socket.socket, data: Any, to: Any) -> None:
        try:
            await self.loop.sock_sendto(sock, data, to)
        except OSError as exc:
            self.expected(exc)

    def step_sock_send_zerocopy(self, which: int, to: int, size: int, *_: int) -> None:
        sock, identity = self.any_socket(which)
        data = bytearray(self.ledger.datagram(identity, SIZES[size % len(SIZES)]))
        try:
            future = self.loop.sock_sendto_zerocopy(sock, data, self.destination(to))
        except OSError as exc:
            self.expected(exc)
        else:
            self.of(sock, future)
            self.lend_out(future, data)

    def step_sock_train(self, which: int, to: int, size: int, count: int, *_: int) -> None:
        sock, identity = self.any_socket(which)
        length = (64, 1200, 1200, 4000)[size % 4]
        data = bytearray(self.ledger.datagrams(identity, 1 + count % 100, length))
        try:
            future = self.loop.sock_sendto_zerocopy(
                sock, data, self.destination(to), segment_size=length)
        except OSError as exc:
            self.expected(exc)
        else:
            self.of(sock, future)
            self.lend_out(future, data)

    def step_sock_receive(self, which: int, into: int, *_: int) -> None:
        sock, identity = self.any_socket(which)
        self.spawn(self.sock_receive(sock, identity, into), waits=True)

    async def sock_receive(self, sock: socket.socket, identity: int, into: int) -> None:
        try:
            if into % 2:
                buffer = bytearray(65536)
                length, _ = await self.loop.sock_recvfrom_into(sock, buffer)
                data = bytes(buffer[:length])
            else:
                data, _ = await self.loop.sock_recvfrom(sock, 65536)
        except OSError as exc:
            self.expected(exc)
        else:
            self.ledger.received(identity, data)

    def step_sock_close(self, which: int, *_: int) -> None:
        if not self.sockets:
            return
        sock = self.sockets.pop(which % len(self.sockets))[0]
        sock.close()
        # As with asyncio nobody tells those who wait.
        for future in self.of_sockets.pop(sock, []):
            future.cancel()

    async def step_sock_connect(self, which: int, *_: int) -> None:
        """A connection by ``sock_connect``, to a server of this loop's."""
        servers = [server for server in self.servers if server.sockets]
        if servers and len(self.clients) < 4:
            address = servers[which % len(servers)].sockets[0].getsockname()
            self.spawn(self.sock_connect(address))

    async def sock_connect(self, address: Any) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await self.loop.sock_connect(sock, address)
        except BaseException as exc:
            sock.close()
            if not isinstance(exc, OSError):
                raise
            self.expected(exc)
        else:
            self.clients.append(sock)

    def step_sock_send_all(self, which: int, size: int, *_: int) -> None:
        if self.clients:
            sock = self.clients[which % len(self.clients)]
            self.spawn(self.sock_send_all(sock, size), waits=True)

    async def sock_send_all(self, sock: socket.socket, size: int) -> None:
        key = sock.getsockname()
        if key in self.sending:
            return                       # one at a time: they would mix
        self.sending.add(key)
        try:
            flow = self.flow(key, sock.getpeername())
            await self.loop.sock_sendall(
                sock, flow.piece((10, 3000, 70000)[size % 3]))
            self.sending.discard(key)    # one that was cancelled has sent nobody knows what
        except OSError as exc:
            self.expected(exc)
