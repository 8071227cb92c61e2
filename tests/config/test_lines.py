"""Line numbers of the keys of a TOML text."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.config.problems import KeyPath, line_of, locate_keys

EVERYTHING = '''\
# comment with [brackets] and = signs
name = "x"
text = """
fake = 1
[fake]
quotes \\""" ""\"""
after = 'a"b#c'
raw = \'\'\'
[[fake]]
\'\'\'
list = [
  1, # ]
  "]", [2,
  3],
]
inline = { a = 1, b = { c = [1, 2] } }
a.b . "c d" = 1
"quoted.key" = 2

[ table ]
key = 1979-05-27T07:32:00Z

[[group]]
name = 1

  [group.retry]
  base = 2

[[group.deep]]
x = 1
[[group.deep]]
x = 2
[[group]]
retry.base = 3
[group.deep]
y = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("text",), 3),
        (("after",), 7),
        (("raw",), 8),
        (("list",), 11),
        (("inline",), 16),
        (("inline", "b", "c"), 16),
        (("a", "b", "c d"), 17),
        (("quoted.key",), 18),
        (("table",), 20),
        (("table", "key"), 21),
        (("group", 0), 23),
        (("group", 0, "name"), 24),
        (("group", 0, "retry"), 26),
        (("group", 0, "retry", "base"), 27),
        (("group", 0, "deep", 0, "x"), 30),
        (("group", 0, "deep", 1, "x"), 32),
        (("group", 1), 33),
        (("group", 1, "retry", "base"), 34),
        (("group", 1, "deep", "y"), 36),
        (("group", 1, "missing"), 33),
        (("missing",), 1),
    ],
)
def test_line_of_every_form_of_key_is_found(path: KeyPath, line: int) -> None:
    """Brackets in text, comments and arrays are no tables."""
    tomllib.loads(EVERYTHING)
    assert line_of(locate_keys(EVERYTHING), path) == line


def test_line_ending_crlf_counts_once() -> None:
    assert locate_keys("a = 1\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 2, ("b", "c"): 3}


_keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=5)
_values = st.sampled_from(["1", '"#="', "'[x]'", '"""\n[a]\n"""', "[\n1,\n2]", "{ a = 1 }", "true", "1.5", "'''\n'''"])


@given(st.dictionaries(_keys, _values, max_size=8))
def test_line_of_every_key_is_found_between_any_values(table: dict[str, str]) -> None:
    text, expected = "", {}
    for key, value in table.items():
        expected[key,] = text.count("\n") + 1
        quoted = "".join(f"\\U{ord(char):08x}" for char in key)
        text += f'"{quoted}" = {value}\n'
    parsed: dict[str, Any] = tomllib.loads(text)
    assert {(key,) for key in parsed} == expected.keys()
    assert locate_keys(text) == expected
