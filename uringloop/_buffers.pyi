"""Memory: what a program hands over to be sent, and what the kernel receives into."""

class ReceiveBuffers:
    """A provided-buffer ring: the kernel takes a buffer for each datagram that comes."""

    @property
    def count(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def missing(self) -> int:
        """Of those offered: there was no memory for another."""
    @property
    def offered(self) -> int: ...
    @property
    def size(self) -> int: ...
