"""What a Python socket is, without asking its properties, which make enums."""

def heads_are_known() -> bool:
    """Whether socket objects begin as ``socket_head`` says: looked at, not believed."""
