"""Our own themes: which one is chosen, and whether all eyes can read them and tell their colours apart."""

from __future__ import annotations

import itertools

import pytest
from textual.color import Color
from textual.theme import Theme

from asyncwatch.ui.themes import DARK, LIGHT, default_theme
from tests.ui.fakes import FakeController, make_app, shows, small_run

THEMES = pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
MEANINGFUL = ("primary", "success", "warning", "error")
"""The colours of states."""
# Linear RGB as people with no L, M or S cones see it: Machado, Oliveira and Fernandes, "A Physiologically-based Model
# for Simulation of Color Vision Deficiency" (2009), severity 1.
SIMULATIONS = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def colour(theme: Theme, name: str) -> Color:
    return Color.parse(getattr(theme, name))


def linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def luminance(color: Color) -> float:
    red, green, blue = map(linear, color.normalized)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Color, two: Color) -> float:
    """Return the contrast ratio of WCAG 2."""
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def seen(color: Color, vision: str) -> tuple[float, float, float]:
    """Return the colour in CIE L*a*b* as seen with that vision."""
    values = [*map(linear, color.normalized)]
    red, green, blue = (
        min(1.0, max(0.0, sum(factor * value for factor, value in zip(row, values, strict=True))))
        for row in SIMULATIONS[vision]
    )
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    fx, fy, fz = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@THEMES
@pytest.mark.parametrize("name", [*MEANINGFUL, "secondary", "accent", "foreground"])
def test_text_of_each_colour_can_be_read(theme: Theme, name: str) -> None:
    for background in ("background", "surface"):
        assert contrast(colour(theme, name), colour(theme, background)) >= 4.5


@THEMES
@pytest.mark.parametrize("vision", SIMULATIONS)
def test_colours_of_states_are_told_apart_with_any_colour_vision(theme: Theme, vision: str) -> None:
    for one, two in itertools.combinations(MEANINGFUL, 2):
        before, after = seen(colour(theme, one), vision), seen(colour(theme, two), vision)
        distance = sum((a - b) ** 2 for a, b in zip(before, after, strict=True)) ** 0.5
        assert distance >= 15, (one, two, distance)  # 2.3 is a just noticeable difference


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "asyncwatch-dark"),
        ({"COLORFGBG": "15;0"}, "asyncwatch-dark"),
        ({"COLORFGBG": "0;15"}, "asyncwatch-light"),
        ({"COLORFGBG": "0;default;15"}, "asyncwatch-light"),
        ({"COLORFGBG": "0;15", "TEXTUAL_THEME": "nord"}, "nord"),
    ],
)
def test_theme_to_begin_with(environ: dict[str, str], expected: str) -> None:
    assert default_theme(environ) == expected


@pytest.mark.parametrize(("chosen", "expected"), [("nord", "nord"), ("no such theme", "asyncwatch-dark")])
async def test_theme_of_the_environment_is_used_if_there_is_one(
    chosen: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTUAL_THEME", chosen)
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test():
        await shows(app, "2 succeeded")
        assert app.theme == expected
        assert {"asyncwatch-dark", "asyncwatch-light"} <= app.available_themes.keys()
