"""`python -m duch` is the command `duch`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="duch")
