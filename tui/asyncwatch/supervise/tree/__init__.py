"""Supervision trees with the semantics of Erlang/OTP's `supervisor` (stdlib's supervisor.erl)."""
