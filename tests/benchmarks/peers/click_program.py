"""A Click program with one command."""

from __future__ import annotations

import click


@click.command()
@click.argument("names", nargs=-1)
@click.option("--shout", is_flag=True, help="In capitals.")
def main(names: tuple[str, ...], shout: bool) -> None:
    """Greet people."""
    for name in names:
        click.echo(name.upper() if shout else name)


if __name__ == "__main__":
    main()
