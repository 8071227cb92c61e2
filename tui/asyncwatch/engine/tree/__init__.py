"""Supervision trees by the rules of OTP's `supervisor`."""
