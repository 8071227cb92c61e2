"""`asyncwatch.otp`, the public home of OTP's errors and words."""

from __future__ import annotations

import pytest

from asyncwatch import WorkerSpec, otp
from asyncwatch.engine.tree import errors


def _subclasses(base: type[BaseException]) -> set[type[BaseException]]:
    return {base}.union(*map(_subclasses, base.__subclasses__()))


@pytest.mark.parametrize("base", [otp.SpecError, otp.TreeError])
def test_otp_has_every_error_of_a_family(base: type[BaseException]) -> None:
    ours = {kind for kind in _subclasses(base) if kind.__module__.startswith("asyncwatch.")}
    assert {kind.__name__: kind for kind in ours}.items() <= vars(otp).items()
    assert {kind.__name__ for kind in ours} <= set(otp.__all__)


def test_otp_exports_all_errors_of_supervision_and_what_is_said_of_children() -> None:
    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert sorted(otp.__all__) == sorted({*raised, "ChildCounts", "ChildInfo", "ChildStatus"})
    assert all(hasattr(otp, name) for name in otp.__all__)


def test_invalid_spec_is_a_value_error_of_the_family() -> None:
    with pytest.raises(otp.SpecError) as raised:
        WorkerSpec("", print)  # type: ignore[arg-type]  # it is never called
    assert isinstance(raised.value, otp.InvalidName)
    assert isinstance(raised.value, ValueError)
