"""The themes of our own: one for a dark terminal, one for a light one, safe for colour-blind eyes."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

# Blue, bluish green, yellow and vermilion, as in Okabe and Ito's palette ("Color Universal Design", 2008). Their
# lightness differs too, for eyes that see two of the hues as one, and each has the contrast that text needs. Tests
# hold both.
DARK = Theme(
    name="asyncwatch-dark",
    primary="#3d95f5",
    secondary="#cc79a7",
    accent="#f0e442",
    foreground="#e4e4e4",
    background="#121417",
    surface="#1b1e23",
    panel="#262a31",
    success="#3fe0c0",
    warning="#fccb4e",
    error="#e8663c",
    dark=True,
)
LIGHT = Theme(
    name="asyncwatch-light",
    primary="#0140c2",
    secondary="#8f3b6f",
    accent="#5b4a9e",
    foreground="#1a1a1a",
    background="#fbfbf8",
    surface="#f0f0ec",
    panel="#e2e2dc",
    success="#017547",
    warning="#786a00",
    error="#7d2000",
    dark=False,
)
_LIGHT_BACKGROUNDS = frozenset({"7", "15"})
"""Colours of a light background, as `COLORFGBG` numbers them."""


def default_theme(environ: Mapping[str, str]) -> str:
    """Return the theme to begin with: `TEXTUAL_THEME`, else ours, for the background that the terminal names.

    Few terminals name one, by `COLORFGBG`; all others are taken for dark.
    """
    if chosen := environ.get("TEXTUAL_THEME"):
        return chosen
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    return (LIGHT if background in _LIGHT_BACKGROUNDS else DARK).name
