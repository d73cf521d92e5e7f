"""Options and output that several commands have in common."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rocscope.capture import Capture
    from rocscope.config import AnalyzeOptions
    from rocscope.findings import Analysis

Decorated = Callable[..., Any]


def selection_options(command: Decorated) -> Decorated:
    """Add the options that choose a part of a recording and say what is known beside it."""
    options = [
        click.option("--ranks", metavar="LIST", help="Only these ranks, e.g. 0,2-3."),
        click.option("--steps", metavar="A:B", help="Only engine steps A to B (B not included), from 0."),
        click.option(
            "--between", metavar="T0:T1", help="Only this time, in seconds from the first dispatch."
        ),
        click.option("--gpu", metavar="NAME", help="The GPU, where the recording does not say or is wrong."),
        click.option(
            "--model",
            type=click.Path(path_type=Path),
            metavar="CONFIG",
            help="The served model's config.json, or its folder: gives kernels their shapes.",
        ),
        click.option("--tp", type=click.IntRange(min=1), help="Tensor-parallel size, where not recorded."),
        click.option(
            "--companions/--no-companions",
            default=None,
            help="Read files of the same run beside a recording that is named alone (a load's result, "
            "metrics, telemetry, log, the model's config), or not. They are, and it is said.",
        ),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


def token_option(command: Decorated) -> Decorated:
    """Add ``--tpot-ms``, for commands that show what a step takes."""
    return click.option(
        "--tpot-ms",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MS",
        help="Time per output token, measured without the profiler: held against a step's kernel time.",
    )(command)


def context_option(command: Decorated) -> Decorated:
    """Add ``--context``, for commands that size attention."""
    return click.option(
        "--context",
        type=click.IntRange(min=1, max=1 << 31),
        metavar="N",
        help="Mean tokens in the KV cache of a running request: sizes decode attention whose context no step "
        "annotation tells.",
    )(command)


def _auto_none_or_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    words = [CompletionItem(word) for word in ("auto", "none") if word.startswith(incomplete)]
    return [*words, CompletionItem(incomplete, type="file")]


def ceilings_option(command: Decorated) -> Decorated:
    """Add ``--ceilings``, for commands that label kernels."""
    return click.option(
        "--ceilings",
        default="auto",
        show_default=True,
        metavar="FILE|none",
        shell_complete=_auto_none_or_file,
        help="Ceilings measured by `rocscope doctor --measure`: a file or folder of them, none, or auto: "
        "those that the capture carries, else those that this machine keeps of a card of the same model.",
    )(command)


def forecasts_option(command: Decorated) -> Decorated:
    """Add ``--forecasts``, for commands that forecast gains."""
    return click.option(
        "--forecasts",
        default="auto",
        show_default=True,
        metavar="FILE|none",
        shell_complete=_auto_none_or_file,
        help="What forecasts of gains learn from: a ledger of scored ones or its JSON form, none, or auto: "
        "the ledger that `rocscope compare` keeps for you.",
    )(command)


def output_options(command: Decorated) -> Decorated:
    """Add ``--out``, ``--json`` and ``--quiet``."""
    options = [
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Write every report and the capture into DIR.",
        ),
        click.option(
            "--json", "as_json", is_flag=True, help="Print analysis.json on standard output, nothing else."
        ),
        click.option("-q", "--quiet", is_flag=True, help="No progress, no table; only errors."),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


def analyze_options(
    *,
    ranks: str | None = None,
    steps: str | None = None,
    between: str | None = None,
    gpu: str | None = None,
    model: Path | None = None,
    tp: int | None = None,
    context: int | None = None,
    tpot_ms: float | None = None,
    ceilings: str = "auto",
    companions: bool | None = None,
    forecasts: str = "auto",
) -> AnalyzeOptions:
    """Check what :func:`selection_options` and the functions beside it give.

    Raises ``UsageError`` that names the option.
    """
    from rocscope.config import AnalyzeOptions, parse_range, parse_ranks
    from rocscope.errors import UsageError

    if tpot_ms is not None and not math.isfinite(tpot_ms):  # click takes inf and nan for numbers
        raise UsageError(f"--tpot-ms {tpot_ms}: not a time", "write for example --tpot-ms 18.82")
    chosen = parse_range("--steps", steps) if steps else None
    return AnalyzeOptions(
        ranks=parse_ranks(ranks) if ranks else None,
        steps=(int(chosen[0]), int(min(chosen[1], sys.maxsize))) if chosen else None,
        between_s=parse_range("--between", between) if between else None,
        gpu=gpu,
        model=model,
        tp=tp,
        context=context,
        tpot_s=None if tpot_ms is None else tpot_ms * 1e-3,
        ceilings=ceilings,
        companions=companions is not False,
        forecasts=forecasts,
    )


def say_companions(capture: Capture) -> None:
    """Tell on standard error what was read beside the recording that was named."""
    from rocscope.untrusted import visible

    for notice in capture.manifest.notices:
        if notice.code == "companions":
            click.echo(visible(notice.message), err=True)


@contextmanager
def progress(*, enabled: bool = True) -> Iterator[Callable[[str], None]]:
    """Give a function that shows what is being done, on standard error and only on a terminal."""
    if not (enabled and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(escape(text))


def show(analysis: Analysis, written: Mapping[str, Path], *, as_json: bool, quiet: bool) -> None:
    """Print the analysis: JSON for machines, a table for people, then the paths of what was written."""
    if as_json:
        click.echo(analysis.model_dump_json(indent=1))
        return
    if not quiet:
        from rocscope.reports import terminal

        terminal.show(analysis)
    for name, path in written.items():
        click.echo(f"{name:>10}  {path}")
