"""``rocscope analyze``: from files to an analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from rocscope.commands import _shared

DAMAGE: Final = ("truncated-file", "malformed-json", "malformed-rows")  # notices of what could not be read


@click.command("analyze", short_help="Label and rank the kernels of a recording.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Instead of a recording: a table of kernels measured elsewhere, one row a kernel and launch shape.",
)
@_shared.selection_options
@_shared.context_option
@_shared.token_option
@_shared.ceilings_option
@_shared.forecasts_option
@_shared.output_options
def COMMAND(
    paths: tuple[Path, ...],
    table: Path | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **selection: object,
) -> int:
    """Label and rank the kernels of a recording: any file or folder that rocprof (v1, v2, v3), rocpd or the
    PyTorch profiler wrote, plain or gzipped, or a capture of rocscope. A folder is one run, of all its
    processes and ranks. The format is told from the content.

    A --table needs --gpu and the columns kernel and duration_ns; a column that it does not know is an error
    that lists the others (bytes, hit rates, occupancy, busy shares...). Its figures are of one dispatch.

    \b
    Examples:
      rocscope analyze results.csv
      rocscope analyze rocprof-out/ --gpu MI100 --model /models/qwen3-8b-gptq/config.json
      rocscope analyze graph.json.gz --model config.json --context 2048
      rocscope analyze trace_rank*.json.gz --steps 10:20 --out report/
      rocscope analyze capture/ --json | jq .targets[0]
      rocscope analyze trace.json.gz --ceilings none
      rocscope analyze --table measured.csv --gpu MI100
    """
    from rocscope import pipeline
    from rocscope.errors import NoKernels, UsageError

    if bool(paths) == bool(table):
        raise UsageError(
            "a recording or a --table, one of them", "see `rocscope analyze --help` for what it reads"
        )
    if table and not selection.get("gpu"):
        raise UsageError("a --table does not say which GPU it is of", "name it, for example --gpu MI100")
    options = _shared.analyze_options(**selection)  # type: ignore[arg-type]  # click gives them by these names
    with _shared.progress(enabled=not (quiet or as_json)) as step:
        capture = (
            pipeline.load_table(table)
            if table
            else pipeline.load(*paths, progress=step, companions=options.companions)
        )
        if not quiet:
            _shared.say_companions(capture)
        analysis = pipeline.analyze_capture(capture, options, progress=step)
        written = pipeline.write_reports(analysis, capture, out) if out else {}
    _shared.show(analysis, written, as_json=as_json, quiet=quiet)
    if not analysis.kernels:
        for warned in analysis.integrity.warnings:
            if warned.code in DAMAGE:
                raise NoKernels(
                    f"no GPU kernels in what can be read of this recording: {warned.message}",
                    "copy the file again, or profile again",
                )
        raise NoKernels(
            "no GPU kernels in this recording",
            "record GPU activity, for example with `rocscope profile` on a node with ROCm",
        )
    return 0
