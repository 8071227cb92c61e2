"""Retry, restart, luck and limits: each policy defined once, pure, used as it is by config and engine."""
