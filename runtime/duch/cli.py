"""The command `duch`: its subcommands, and how a failure is told.

The edge's commands are in modules beside this one; heavy packages add theirs by the entry points `duch.commands`. Each
is imported when it is called. Results go to stdout, progress and errors to stderr. A bad input is one line and exit
code 1, an interrupt is 130.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from .display import display_path, printable
from .errors import DuchError
from .providers import ProviderFallbackWarning

# command -> module beside this one
_OWN = {
    "encode": "cli_query",
    "index": "cli_index",
    "watch": "cli_watch",
    "search": "cli_search",
    "gallery": "cli_gallery",
    "query": "cli_packet",
    "answer": "cli_packet",
    "hits": "cli_packet",
}


class _Failure(click.ClickException):
    """One line on stderr, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"duch: {printable(' '.join(self.message.split()))}", err=True)


class _Commands(click.Group):
    """The edge's commands and those of other packages; only the one that is called is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from importlib.metadata import entry_points

        return [*_OWN, *sorted(point.name for point in entry_points(group="duch.commands"))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _OWN:
            own: click.Command = getattr(import_module(f".{_OWN[cmd_name]}", __package__), cmd_name)
            return own
        # Imported late: it takes half as long as all of numpy, and these commands do without it.
        from importlib.metadata import entry_points

        for point in entry_points(group="duch.commands", name=cmd_name):
            command: click.Command = point.load()
            return command
        return None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DuchError as error:
            raise _Failure(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\nduch: interrupted", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            raise  # the reader of stdout has gone: click ends quietly
        except OSError as error:
            named = isinstance(error.filename, str | bytes | os.PathLike)
            where = f"{display_path(error.filename)}: " if named else ""
            raise _Failure(f"{where}{error.strerror or error}") from error
        except MemoryError as error:
            raise _Failure("out of memory; use a smaller batch or a smaller input") from error
        except RecursionError as error:
            raise _Failure("a JSON file is nested too deeply to be shown") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="duch", prog_name="duch")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Find satellite image tiles by a sentence or by another tile.

    On the edge: encode, index, watch, search, gallery, and info, selftest, bench for the device; query, answer, hits
    over a link of few bytes. On the workstation: scenes, train, evaluate, export.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # letters that the locale lacks are no reason to lose a result
        sys.stdout.reconfigure(errors="backslashreplace")
    ctx.with_resource(warnings.catch_warnings())
    # What Pillow warns of (truncated files, decompression bombs) is refused with a line of our own.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    _show_fallbacks_as_lines()


def _show_fallbacks_as_lines() -> None:
    show_any = warnings.showwarning
    told = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, ProviderFallbackWarning):
            show_any(message, category, *where, **more)
        elif str(message) not in told:
            told.add(str(message))
            click.echo(f"duch: {message}", err=True)

    warnings.filterwarnings("always", category=ProviderFallbackWarning)
    warnings.showwarning = show
