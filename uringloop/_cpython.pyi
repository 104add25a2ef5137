"""What a Python socket is, without asking its properties, which make enums."""

TRAFFIC: tuple[str, ...]

def kind_is_plain(kind: type) -> bool:
    """Whether sockets of this class are the system's, and nobody wants to be asked for them."""

def is_plain_socket(sock: object) -> bool:
    """Whether the ring may serve it; else asyncio's way, which asks the object."""

def heads_are_known() -> bool:
    """Whether socket objects begin as ``socket_head`` says: looked at, not believed."""
