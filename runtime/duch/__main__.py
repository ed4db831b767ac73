"""`python -m duch` is the command `duch`."""

import sys


def run() -> None:
    """The command, with an interrupt while it is still being imported told as any later one."""
    try:
        from .cli import main

        main(prog_name="duch")
    except KeyboardInterrupt:
        print("\nduch: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run()
