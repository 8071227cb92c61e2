"""The waits of the other tests: how they fail."""

from __future__ import annotations

import pytest

from tests.ui import fakes


async def test_until_condition_that_never_holds_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "CHECKS", 3)
    checks: list[int] = []
    with pytest.raises(TimeoutError, match=r"not true at any of 3 checks .* checks\.append\(7\)"):
        await fakes.until(lambda: checks.append(7))
    assert checks == [7, 7, 7]


async def test_until_deadline_ends_slow_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "DEADLINE", -1.0)
    with pytest.raises(TimeoutError, match="not true at any of 1 checks"):
        await fakes.until(lambda: False)
