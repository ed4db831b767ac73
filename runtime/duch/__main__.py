"""`python -m duch` is the command `duch`."""

from .cli import main

main(prog_name="duch")
