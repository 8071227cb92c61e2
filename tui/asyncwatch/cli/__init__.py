"""The `asyncwatch` command."""
