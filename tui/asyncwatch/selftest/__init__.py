"""Erlang/OTP's own test cases of supervisors, as coroutine functions that run anywhere. `table.CASES` has them all."""
