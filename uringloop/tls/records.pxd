"""The half of asyncio's TLS protocol that each message passes."""


cdef class RecordFlow:
    # asyncio's names: its own half, in Python, works on the same attributes.
    cdef public:
        object _transport
        object _app_protocol
        object _state
        object _sslobj
        object _incoming            # what has come and was not read yet: an ssl.MemoryBIO
        object _outgoing            # what was written and has not left
        object _write_backlog       # what could not be made records of yet
        object _ssl_buffer
        object _ssl_buffer_view
        object _outgoing_high_water         # numbers of any kind
        object _outgoing_low_water
        object _incoming_high_water
        object _incoming_low_water
        Py_ssize_t _write_buffer_size
        bint _app_protocol_is_buffer
        bint _app_reading_paused
        bint _app_writing_paused
        bint _ssl_reading_paused
        bint _ssl_writing_paused

    cdef int received(self, char* content, Py_ssize_t length) except -1
    cdef int has_come(self) except -1
    cdef int read(self) except -1
    cdef int read_copied(self) except -1
    cdef int write(self, object data) except -1
    cdef int write_backlog(self) except -1
    cdef int send_records(self) except -1
    cdef int pause_or_resume_writing(self) except -1
    cdef int pause_or_resume_reading(self) except -1
