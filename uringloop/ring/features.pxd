"""What of io_uring is used, beyond what every loop needs."""


cdef struct feature_set:
    bint submit_all
    bint taskrun_flag
    bint ring_fd
    bint registered_files
    bint registered_buffers
    bint send_zc
    bint report_usage
    bint registered_messages
    bint no_iowait


cdef feature_set features

cdef int find_features() except -1
