"""The cases, one a file. Each has a `run(effort)` that yields its findings as they come."""
