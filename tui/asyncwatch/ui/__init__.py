"""The dashboard: the only package that imports Textual. It reads facts, sends requests, and knows no engine."""
