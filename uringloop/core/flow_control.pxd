"""When a protocol is told to pause, and when to go on."""

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    HIGH_WATER = 65536      # bytes: asyncio's
    LOW_WATER = 16384


cdef inline (size_t, size_t) water_marks(object high, object low) except *:
    """What ``set_write_buffer_limits(high, low)`` means, in bytes: high, low."""
    if high is None:
        high = HIGH_WATER if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f'high ({high!r}) must be >= low ({low!r}) must be >= 0')
    # Numbers of any kind, infinite too; sizes are whole.
    return <size_t>min(high, PY_SSIZE_T_MAX), <size_t>min(low, PY_SSIZE_T_MAX)


cdef inline int tell(object loop, object transport, object protocol, str name) except -1:
    """Call ``pause_writing`` or ``resume_writing``; what it raises ends nothing, as in asyncio."""
    try:
        getattr(protocol, name)()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        loop.call_exception_handler({
            'message': f'protocol.{name}() failed', 'exception': exc,
            'transport': transport, 'protocol': protocol})
    return 0
