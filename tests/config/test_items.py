"""Items: how they are read, how workers are named after them, and which are refused."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.config.values import url_problem
from asyncwatch.plan.items import Items, ItemsError, ItemSource, Kind, delimiter_of, name_items, unique_names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_items(source: str, kind: Kind = "any", stdin: BinaryIO | None = None, **settings: Any) -> Items:
    """Return the items of a source."""
    return ItemSource(source, kind, stdin, **settings).read()


def problems_of(source: str, kind: Kind = "any") -> list[str]:
    """Return the problems of a file of items."""
    with pytest.raises(ItemsError) as caught:
        read_items(source, kind)
    return list(caught.value.problems)


def test_text_items_skip_blank_lines_and_comments(folder: Path) -> None:
    """Nor do a byte order mark, CRLF and a missing last line ending matter."""
    (folder / "a.txt").write_bytes("\ufeffone\r\n\r\n  # no\r\n  zwei ☂ \r\n#\nthree".encode())
    assert read_items("a.txt", "any") == [("one", "one"), ("zwei ☂", "  zwei ☂ "), ("three", "three")]


def test_text_item_is_its_line_with_all_white_space(folder: Path) -> None:
    (folder / "a.tsv").write_bytes(b"1\tOslo\t\n2\t\t \r\n    return\n\x0c\n")
    assert [item for _, item in read_items("a.tsv", "any")] == ["1\tOslo\t", "2\t\t ", "    return"]


def test_url_item_is_its_line_without_white_space(folder: Path) -> None:
    (folder / "a.txt").write_text("  http://a.example \t\n")
    assert read_items("a.txt", "url") == [("http://a.example", "http://a.example")]


def test_ndjson_is_read_as_jsonl(folder: Path) -> None:
    (folder / "a.NDJSON").write_text('{"name": "x"}\n')
    assert read_items("a.NDJSON", "any") == [("x", {"name": "x"})]


@pytest.mark.parametrize(
    ("text", "delimiter", "rows"),
    [
        ("no;town\n1;Oslo, Norway\n2;Voss\n", ";", [{"no": "1", "town": "Oslo, Norway"}, {"no": "2", "town": "Voss"}]),
        ("no\ttown\r\n1\t\r\n", "\t", [{"no": "1", "town": ""}]),
        ("no|town\n1|a;b\n", "|", [{"no": "1", "town": "a;b"}]),
        ("no,town\n1,a;b;c\n", ",", [{"no": "1", "town": "a;b;c"}]),
        ('"no;x",town\n1,"a;\nb"\n', ",", [{"no;x": "1", "town": "a;\nb"}]),
        ("sep=;\nno\n1,5\n", ";", [{"no": "1,5"}]),
        (
            "no;price, EUR\n1;2,50\n2;3,75\n",
            ";",
            [{"no": "1", "price, EUR": "2,50"}, {"no": "2", "price, EUR": "3,75"}],
        ),
        ("town\nOslo; Norway\n", ",", [{"town": "Oslo; Norway"}]),
        (
            "no;town\n" + "1;2\n" * 99 + '3;"a\nb;c"\n',
            ";",
            [{"no": "1", "town": "2"}] * 99 + [{"no": "3", "town": "a\nb;c"}],
        ),
    ],
)
def test_delimiter_of_a_csv_is_found(folder: Path, text: str, delimiter: str, rows: list[dict[str, str]]) -> None:
    (folder / "a.csv").write_bytes(text.encode())
    assert delimiter_of("a.csv") == delimiter
    assert [item for _, item in read_items("a.csv", "any")] == rows


def test_row_that_does_not_fit_the_delimiter_of_its_header_is_a_problem(folder: Path) -> None:
    (folder / "a.csv").write_text("sep=;\nno;town\n1;Oslo\n2,Voss\n")
    assert problems_of("a.csv") == ["a.csv:4: has 1 cell, but the header has 2"]
    (folder / "a.csv").write_text("no;town\n1;Oslo\n2,Voss\n")
    assert problems_of("a.csv") == ["a.csv:3: has 1 cell, but the header has 2"]


def test_other_file_than_a_csv_has_no_delimiter(folder: Path) -> None:
    (folder / "a.txt").write_text("a;b\n")
    assert [delimiter_of(source) for source in ("a.txt", "-", "none.csv")] == [None] * 3


def test_cell_may_be_longer_than_csv_allows_by_default(folder: Path) -> None:
    (folder / "a.csv").write_text(f"no;text\n1;{'x' * 200_000}\n")
    assert len(read_items("a.csv", "any")[0][1]["text"]) == 200_000
    assert csv.field_size_limit() < 200_000  # the limit of the user's own code stays


def test_standard_input_is_read_as_text() -> None:
    assert read_items("-", "any", io.BytesIO(b"a\nb\na\n")) == [("a", "a"), ("b", "b"), ("a#2", "a")]


def test_jsonl_item_is_named_by_its_name_or_its_line(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"name": "x", "n": 1}\n\n[1]\n{"name": ""}\n{"name": 7}\n{"name": null}\n')
    assert read_items("a.jsonl", "any") == [
        ("x", {"name": "x", "n": 1}),
        ("3", [1]),
        ("4", {"name": ""}),
        ("7", {"name": 7}),
        ("6", {"name": None}),
    ]


def test_csv_row_is_a_dict_named_by_its_name_or_its_first_line(folder: Path) -> None:
    (folder / "a.CSV").write_bytes(b'\xef\xbb\xbfname,n\r\nx,1\r\n,"two\r\nlines"\r\n\r\n,3\r\n')
    assert read_items("a.CSV", "any") == [
        ("x", {"name": "x", "n": "1"}),
        ("3", {"name": "", "n": "two\r\nlines"}),
        ("6", {"name": "", "n": "3"}),
    ]


def test_csv_column_url_is_the_item_of_an_http_worker(folder: Path) -> None:
    (folder / "a.csv").write_text("name,url\nshop,http://a.example\n,http://u:p@b.example\n")
    assert read_items("a.csv", "url") == [
        ("shop", "http://a.example"),
        ("http://***@b.example", "http://u:p@b.example"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "kind", "problems"),
    [
        ("a.csv", b"h\n\xff\n1\n\n2,3\n\xff,\xff\n", "any", ["a.csv:2: is", "a.csv:5: has 2", "a.csv:6: is not UTF-8"]),
        ("a.csv", b'h\n"x"y\n1\n"z"z\n', "any", ["a.csv:2: is not CSV", "a.csv:4: is not CSV"]),
        ("a.txt", b"ok\n\xff\n", "any", ["a.txt:2: is not UTF-8"]),
        ("a.csv", b"h\nok\n\xff\n", "any", ["a.csv:3: is not UTF-8"]),
        ("a.jsonl", b"1\n{\n", "any", ["a.jsonl:2: is not JSON: Expecting property name enclosed in double quotes"]),
        ("a.jsonl", b"[" * 100_000, "any", ["a.jsonl:1: is not readable JSON"]),
        ("a.csv", b"a,b\n1,2\n1\n1,2,3\n", "any", ["a.csv:3: has 1 cell,", "a.csv:4: has 3 cells"]),
        ("a.csv", b"a,a\n1,2\n", "any", ["a.csv:1: each column of the header needs a name of its own"]),
        ("a.csv", b'a\n1\n"open\n2\n', "any", ["a.csv:3: opens a quote that is never closed"]),
        ("a.csv", b'a\n"op\nen"x\n2\n', "any", ["a.csv:2: is not CSV: ',' expected after '\"' (up to line 3)"]),
        ("a.csv", b"a\n1\n", "url", ["a.csv:2: has no url; add one, or give a TARGET"]),
        ("a.txt", b"http://a\n\nfoo\n", "url", ["a.txt:3: 'foo' is not an http:// or https:// URL"]),
        ("a.txt", b"x\n" * 20, "url", [f"a.txt:{n}: 'x' is no" for n in range(1, 21)]),
    ],
)
def test_invalid_items_are_all_reported_with_their_lines(
    folder: Path, name: str, content: bytes, kind: Kind, problems: list[str]
) -> None:
    (folder / name).write_bytes(content)
    found = problems_of(name, kind)
    assert len(found) == len(problems)
    for message, start in zip(found, problems, strict=True):
        assert message.startswith(start)


def test_many_invalid_items_are_listed_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    (folder / "a.txt").write_text("x\n" * 1000)
    *first, last = problems_of("a.txt", "url")
    assert [line[:8] for line in first] == [f"a.txt:{n}:" for n in range(1, 6)]
    (file,) = folder.glob("asyncwatch-bad-lines-*.txt")
    assert last == f"a.txt: and 995 more lines like these; {file} lists all 1,000 (--skip-bad runs the others)"
    listed = file.read_text().splitlines()
    assert listed[:5] == first
    assert [line.partition("'")[0] for line in listed] == [f"a.txt:{n}: " for n in range(1, 1001)]


def test_many_invalid_items_are_counted_if_no_file_can_list_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "none"))
    (folder / "a.txt").write_text("x\n" * 25)
    found = problems_of("a.txt", "url")
    assert len(found) == 21
    assert found[-1] == "a.txt: and 5 more lines like these (--skip-bad runs the others)"


def test_invalid_items_are_skipped_and_counted_on_request(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"n": 1}\n{\n2\nnone\n')
    source = ItemSource("a.jsonl", "any", skips_bad=True)
    assert source.read() == [("1", {"n": 1}), ("3", 2)]
    (note,) = source.notes(2)
    assert note.startswith("a.jsonl: 2 lines skipped (--skip-bad), the first: a.jsonl:2: is not JSON")


def test_any_json_is_read_as_the_standard_library_does(folder: Path) -> None:
    texts = ["NaN", "1e400", r'"\ud800"', "-0", "1.0", "123456789012345678901234567890", '{"a": 1, "a": [null, true]}']
    (folder / "a.jsonl").write_text("".join(f"{text}\n" for text in texts))
    assert repr([item for _, item in read_items("a.jsonl")]) == repr([json.loads(text) for text in texts])


def test_items_with_a_name_of_their_own_are_known_by_it(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"id": "x/1"}\n{"id": "x/1"}\n3\n')
    (folder / "a.txt").write_text("http://u:p@h/\n")
    (folder / "a.csv").write_text("url,name\nhttp://h/,home\n")
    cases: list[tuple[str, Kind, list[str] | None]] = [
        ("a.jsonl", "any", ["x/1", "x/1", ""]),
        ("a.txt", "url", None),
        ("a.csv", "url", ["home"]),
    ]
    for name, kind, names in cases:
        source = ItemSource(name, kind, name_column="id" if name == "a.jsonl" else None)
        source.read()
        assert source.given == names


def test_quote_that_is_never_closed_is_reported_although_bad_lines_are_skipped(folder: Path) -> None:
    """It would take all lines after it along."""
    (folder / "a.csv").write_text('a,b\n1,x\n2,"y\n' + "3,z\n" * 100)
    with pytest.raises(ItemsError, match=r"a\.csv:3: opens a quote that is never closed"):
        read_items("a.csv", skips_bad=True)


def test_header_that_is_wrong_is_reported_although_bad_lines_are_skipped(folder: Path) -> None:
    (folder / "a.csv").write_text("a,a\n1,2\n")
    with pytest.raises(ItemsError, match=r"a\.csv:1: each column of the header needs a name of its own"):
        read_items("a.csv", skips_bad=True)


@pytest.mark.parametrize(("name", "content"), [("a.txt", b""), ("a.txt", b"# all done\n\n"), ("a.csv", b"id,name\n")])
def test_source_with_nothing_left_in_it_has_no_items_and_a_note(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    source = ItemSource(name, "any")
    assert source.read() == []
    assert [*source.notes(0)] == [f"no items in {name}: there is nothing to run"]


def test_worker_is_named_by_the_column_that_is_given(folder: Path) -> None:
    (folder / "a.csv").write_text("name,id\nx,7\ny,8\nz,7\nw,\n")
    assert [name for name, _ in read_items("a.csv", name_column="id")] == ["7", "8", "7#2", "5"]
    (folder / "a.jsonl").write_text('{"id": 7}\n{"name": "x"}\n[1]\n{"id": true}\n{"id": "http://u:p@h/"}\n')
    assert [name for name, _ in read_items("a.jsonl", name_column="id")] == ["7", "2", "3", "4", "http://***@h/"]


def test_column_that_is_not_there_is_a_problem_that_names_the_others(folder: Path) -> None:
    (folder / "a.csv").write_text("name,id\nx,7\n")
    with pytest.raises(ItemsError, match=r"a\.csv:1: has no column 'no'; its columns are name, id"):
        read_items("a.csv", name_column="no")
    with pytest.raises(ItemsError, match=r"a\.txt: lines of text have no 'no'; --name is for rows"):
        read_items("a.txt", name_column="no")


def test_unreadable_file_of_items_is_reported(folder: Path) -> None:
    assert problems_of("none.txt") == ["none.txt: No such file or directory"]
    assert problems_of("") == ["the name of the file of items is empty"]
    assert problems_of(str(folder)) == [f"{folder}: Is a directory"]


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "https://a.example:8080/x?y#z",
        "HTTP://a/",
        "http://[::1]:80/",
        "http://u:p@a/",
        "http://münchen.example/ü",
    ],
)
def test_url_with_an_http_scheme_and_a_host_is_accepted(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("a.example", "is not an http:// or https:// URL"),
        ("ftp://a", "is not an http:// or https:// URL"),
        ("http://", "has no host"),
        ("http:///x", "has no host"),
        ("http://a:0/", "has no host or a wrong port"),
        ("http://a:99999/", "is not a URL: Port out of range"),
        ("http://[::1/", "is not a URL"),
        ("http://a/b c", "contains a blank"),
        ("http://a/\x1b[2J", "'http://a/\\x1b[2J' contains a blank"),
        ("http://u:secret@", "'http://***@' has no host"),
        ("http://u:se#cret@h/", "'http://***@h/' is not a URL: Port could not be cast to integer value"),
    ],
)
def test_url_that_cannot_be_fetched_is_refused_without_its_password(url: str, problem: str) -> None:
    assert problem in str(url_problem(url))


def test_name_of_an_item_is_printable_masked_and_never_empty() -> None:
    names = [name for name, _ in name_items(["a\x1b[31m\nb", "http://u:p@h/", " ", "\ud800", "x\u202ey"])]
    assert names == ["a\\x1b[31m\\nb", "http://***@h/", "3", "\\ud800", "x\\u202ey"]


def test_repeated_name_gets_the_next_free_number() -> None:
    assert unique_names(["x", "x", "x#2", "x", "y", "x#2"]) == ["x", "x#3", "x#2", "x#4", "y", "x#2#2"]


@given(st.lists(st.text("ab#23", max_size=5)))
def test_names_become_unique_and_the_first_of_each_is_kept(names: list[str]) -> None:
    unique = unique_names(names)
    assert max(Counter(unique).values(), default=1) == 1
    assert all(unique[names.index(name)] == name for name in names)
    assert all(new.startswith(old) for new, old in zip(unique, names, strict=True))
