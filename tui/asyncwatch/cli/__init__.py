"""The `asyncwatch` command, and its exit statuses."""

ALL_SUCCEEDED = 0
NOT_ALL_SUCCEEDED = 1
BAD_INPUT = 2
INTERRUPTED = 130
READER_GONE = 141
"""As a shell reports a program that SIGPIPE ended, because the reader of its output left."""
