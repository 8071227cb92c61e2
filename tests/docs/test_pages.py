"""A block that does not do what its page says fails."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest

from tests.docs.pages import Folder, blocks_of, site

__all__ = ["site"]  # a fixture


def run(tmp_path: Path, site: str, text: str) -> None:
    """Run the blocks of a page."""
    page = tmp_path / "page.md"
    page.write_text(text)
    folder = Folder(tmp_path, site)
    for block in blocks_of(page):
        folder.run(block)


@pytest.mark.parametrize(
    "text",
    [
        "```python\n1 / 0\n```",
        '```python\nimport warnings; warnings.warn("x")\n```',
        "```python\n# jobs.py\nimport nothing_of_that_name\n```",
        "```sh\nfalse\ntrue\n```",
        "```sh\ntrue | false | true\n```",
        "```sh status=1\ntrue\n```",
        "```console\n$ echo one two\none\n```",
        "```console\n$ printf 'one\\ntwo\\n'\none\n```",
        "```console\none\n```",
        "```toml\nnothing_of_that_name = 1\n```",
        "```json\n{\n```",
        '```json\n{"event":"AttemptStarted","seq":7}\n```',
        "```ini\n[Service]\nExecStart=/bin/asyncwatch --nothing\n```",
        '```yaml title="a.yml"\nexpr: asyncwatch_nothing_total\n```',
        '```yaml title="a.yml"\nexpr: asyncwatch_workers{worker="a"}\n```',
        "```yaml\nexpr: asyncwatch_workers\n```",
        "```text\n$ asyncwatch\n```",
        "```csv\nid\n```",
        "```rust\n```",
        "```sh unknown=1\ntrue\n```",
        "```python\n```\n\n    indented\n",
    ],
)
def test_block_that_does_not_hold_fails(text: str, tmp_path: Path, site: str) -> None:
    with pytest.raises((AssertionError, ValueError, msgspec.ValidationError, click.UsageError)):
        run(tmp_path, site, text)


def test_blocks_share_files_and_the_site(tmp_path: Path, site: str) -> None:
    run(
        tmp_path,
        site,
        """
```python
# jobs.py
VALUE = 7
```

```csv title="data/rows.csv"
id
```

```console
$ python -c "import jobs; print('is', jobs.VALUE)"
is ...
$ cat data/rows.csv urls.txt
id
...
https://b.example/
...
```

```python
import json, urllib.error, urllib.request

def status(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, json.load(answer)["path"]
    except urllib.error.HTTPError as error:
        error.close()
        return error.code

assert status("https://a.example/x") == (200, "/x")
assert status("https://a.example/status/404") == 404
assert [status("https://a.example/flaky/1") for _ in range(2)] == [503, (200, "/flaky/1")]
```

```sh keys="x" until="ready" status=3
echo ready
read -r -n 1 key
test "$key" = x && exit 3
```
""",
    )
