"""Widgets. Each draws visible lines of spans only."""
