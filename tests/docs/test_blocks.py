"""Every block of code in README.md and the guide is executed, and every command in their prose exists.

The blocks of a page run in their order, in one folder. A block is fenced, and its language says what is done:

- `python`: a complete program. It runs with warnings as errors. If its first line is a comment with a file name, as in
  `# jobs.py`, it is written to that file instead, and imported.
- `sh`: a script. Every command must succeed.
- `console`: commands after `$ `. Lines below a command are its standard output, or its errors if it prints
  nothing else. `...` stands for any text, and on a line of its own for any lines. A command without such lines may
  print anything.
- `toml`: must satisfy `asyncwatch check`. Without a `[[group]]`, a demo group is added. It is kept if its first line is
  a file name, as above.
- `json`: a document, or one per line. An object with an "event" is an event as it is written.
- `ini`: a systemd unit whose `ExecStart` is valid.
- `yaml`: a file of Prometheus, with a title as below. It names only metrics and labels that there are.
- `csv`, `jsonl`, `text`: written to the file that a title names, as in `csv title="ids.csv"`. A `text` without a title
  is only shown, and contains no command.

More attributes of the info string, which the viewer of the guide does not show:

- `status=1`: the exit status of the block, or of the last command of a `console`.
- `keys="qy"`: the command runs in a terminal, and these keys end it (`^C` is Ctrl+C) when the screen shows the text of
  `until="..."`; by default `seed`, as the dashboard does.
- `needs="postgresql"`: it runs with a database at `DATABASE_URL`, and is skipped where there is no PostgreSQL.
- `skip="why"`: it is not run. pytest lists it with the reason.

URLs with a host below `.example` are served by a local server: the path `/status/404` answers that status, a path with
`flaky` in it answers 503 once, and any other path answers 200 with `{"path": ...}` in JSON. The first request below
`/orders/` is throttled, and only numbers exist there. Paths that end in `.html` are pages with links. A language model
answers at `/chat/completions`: it is throttled at first, and talks too much at times. The folder of a page has
`urls.txt`, three URLs, and `ids.csv`, three rows with an `id`, unless the page shows files of these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, Block, Folder, blocks_of, has_postgresql, site

__all__ = ["site"]  # a fixture

BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def why_not(block: Block) -> str:
    """Return why a block is not run; empty if it is."""
    if "needs" in block.attributes and not has_postgresql():
        return "PostgreSQL is not installed: no `initdb` and `postgres`"
    return block.attributes.get("skip", "")


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, site: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The result of each block. Pages run side by side, up to the last block that is tested."""
    selected = {item.name for item in request.session.items}
    wanted = {block.id for block in BLOCKS if f"{test_block_of_a_page_runs.__name__}[{block.id}]" in selected}
    futures: dict[str, Future[None]] = {block.id: Future() for block in BLOCKS}

    def run(page: Path) -> None:
        folder = Folder(tmp_path_factory.mktemp(page.stem), site)
        blocks = [block for block in BLOCKS if block.page == page]
        while blocks and blocks[-1].id not in wanted:
            blocks.pop()
        for block in blocks:
            if why_not(block):
                continue
            try:
                folder.run(block)
            except BaseException as error:
                futures[block.id].set_exception(error)
            else:
                futures[block.id].set_result(None)
        folder.kill_runs()

    with ThreadPoolExecutor(max_workers=4) as pool:
        for page in PAGES:
            pool.submit(run, page)
        yield futures


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.id)
def test_block_of_a_page_runs(block: Block, results: dict[str, Future[None]]) -> None:
    if reason := why_not(block):
        pytest.skip(reason)
    results[block.id].result()
