"""Numbers of threads and processes that are never used again."""
