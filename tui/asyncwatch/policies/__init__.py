"""Policies: retry, restart, bad luck, budget, circuit, rate and halt. Each is pure and defined once."""
