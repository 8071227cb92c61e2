"""The reference pages of the guide say what the code says."""

from __future__ import annotations

import pytest

from asyncwatch import guide
from tests.docs.reference import PAGES, render


@pytest.mark.parametrize("topic", PAGES)
def test_page_equals_what_the_generator_makes(topic: str) -> None:
    page = guide.path_of(topic).read_text(encoding="utf-8")
    assert page == render(topic), "run `python -m tests.docs.reference`"


def test_every_reference_page_is_generated() -> None:
    assert {topic for topic in guide.topics() if topic.startswith("reference-")} == set(PAGES)
