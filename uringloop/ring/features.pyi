"""What of io_uring is used, beyond what every loop needs."""

FEATURES: dict[str, tuple[tuple[int, int], str]]

def check_features() -> None:
    """ValueError if URINGLOOP_FEATURES names what there is not."""

def features_used() -> dict[str, bool]:
    """Which are used in this process; it asks the kernel, by a ring of its own."""
