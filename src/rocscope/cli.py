"""The command line: finds the commands, and is the only place that prints an error and exits."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

import click

import rocscope.commands
from rocscope import __version__
from rocscope.errors import RocscopeError

EXIT_INTERRUPTED = 130


class _Commands(click.Group):
    """Commands are the modules of ``rocscope.commands``; each exports ``COMMAND``, imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = (module.name for module in pkgutil.iter_modules(rocscope.commands.__path__))
        return sorted(name for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"rocscope.commands.{cmd_name}").COMMAND
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = _near(args[0], self.list_commands(ctx))
            if near:
                raise click.UsageError(f"{error.message} Did you mean {near}?", ctx) from error
            raise


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 2 usage, 3 unusable input, 4 no GPU kernels, 5 unknown GPU, "
    "6 no profiler, 7 no permission, 8 the command could not be run, 9 not ready in time, 10 ended too soon, "
    "11 profiler data lost, 12 regression found, 13 no such file, 14 empty, 15 damaged, 16 unknown format, "
    "17 port taken, 18 a check of doctor --validate failed, 19 a regression could not be "
    "ruled out, 20 another daemon runs, 21 no daemon runs, "
    "22 the daemon's state folder cannot be used. `profile` passes the command's own exit code through.",
)
@click.version_option(__version__, prog_name="rocscope")
def cli() -> None:
    """Where a token's time goes on an AMD GPU, what holds each kernel back, what to change.

    \b
    rocscope profile -- vllm serve MODEL ...    collect, label, rank, report
    rocscope analyze RECORDING...               the same from files, on any machine
    rocscope compare BASE NEW                   what changed
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; ``arguments`` default to those of the process."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; a user's mistake is a message, never a traceback."""
    try:
        code = cli.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except RocscopeError as error:
        _say(error.message, error.hint)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        # the reader of our output went away, as `| head` does; click turns that into an exit with code 1
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _say(message: str, hint: str) -> None:
    click.echo(click.style("error: ", fg="red", bold=True) + _plain(message), err=True)
    if hint:
        click.echo(click.style("next:  ", bold=True) + _plain(hint), err=True)


def _plain(text: str) -> str:
    """Make text from a recording safe for a terminal: no control characters but newline and tab."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)


def _near(word: str, known: list[str]) -> str | None:
    import difflib

    found = difflib.get_close_matches(word, known, n=1)
    return found[0] if found else None
