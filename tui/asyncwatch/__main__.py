"""`python -m asyncwatch` is the command `asyncwatch`."""

from asyncwatch.cli import main

if __name__ == "__main__":
    main(prog_name="asyncwatch")
