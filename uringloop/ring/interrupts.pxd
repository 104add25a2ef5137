"""Which of several exceptions is raised."""
cpdef object graver(object first, object then)
