"""The dashboard, the only package that imports Textual. It reads events, sends commands, and knows no engine."""
