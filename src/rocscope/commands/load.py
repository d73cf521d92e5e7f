"""``rocscope load``: put a small, repeatable load on a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


@click.command("load", short_help="Put a small, seeded load on a server with the OpenAI API.")
@click.argument("url")
@click.option("--model", metavar="NAME", help="As the server names it; else the first that it lists.")
@click.option(
    "--concurrency",
    default="1+8",
    show_default=True,
    metavar="N[+N...]",
    help="Clients at a time, one level after another; with --rate the most in flight.",
)
@click.option("--requests", metavar="N", help="Requests a level. Default: four a client, at least eight.")
@click.option("--prompt", default="512", show_default=True, metavar="N", help="Tokens of a prompt.")
@click.option("--output", default="128", show_default=True, metavar="N", help="Tokens of an answer.")
@click.option("--rate", metavar="R", help="Arrivals a second, at random times: an open loop.")
@click.option(
    "--warmup", default="2", show_default=True, metavar="N", help="Requests before a level, uncounted."
)
@click.option(
    "--seed", default="0", show_default=True, metavar="N", help="The same seed sends the same requests."
)
@click.option("--uds", default="", metavar="PATH", help="The server's Unix socket.")
@click.option(
    "--json-to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the result."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
def COMMAND(
    url: str, model: str | None, uds: str, json_to: Path | None, as_json: bool, **given: str | None
) -> int:
    """Send streamed completions to the server at URL and say how fast it answered: tokens a second, time to
    the first token, time an output token. Prompts are random token ids of a seed, answers have a fixed
    length, so that two runs are the same load. Ctrl-C ends it and keeps what was measured.

    \b
    Examples:
      rocscope load http://127.0.0.1:8000
      rocscope load http://127.0.0.1:8000 --concurrency 1+4+16 --prompt 1024 --output 64
      rocscope load http://127.0.0.1:8000 --rate 2.5 --requests 100 --json
    """
    from rocscope.errors import InputError
    from rocscope.traffic import generator, spec

    shape = spec.checked({name: value for name, value in given.items() if value is not None}, "rocscope load")
    result = generator.generate(
        url, shape, model=model, uds=uds, progress=_say if sys.stderr.isatty() else None
    )
    text = json.dumps(result, indent=1)
    if json_to is not None:
        try:
            json_to.parent.mkdir(parents=True, exist_ok=True)
            json_to.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"{json_to}: cannot be written ({error.strerror})", "name another file"
            ) from error
    if as_json:
        click.echo(text)
    else:
        for level in result["levels"]:
            click.echo(_line(level))
    return 0


def _say(text: str) -> None:
    click.echo(click.style(text, dim=True), err=True)


def _line(level: dict[str, Any]) -> str:
    parts = [f"{level['concurrency']:>4} at a time", f"{level['requests']} requests"]
    if level["failed"]:
        parts.append(f"{level['failed']} failed ({level['failures'][0]['message']})")
    if level["output_tokens_per_s"] is not None:
        parts.append(f"{level['output_tokens_per_s']:.4g} tokens/s")
    for name, key in (("first token", "ttft_s"), ("token", "tpot_s")):
        if level[key] is not None:
            parts.append(f"{name} {level[key]['p50'] * 1e3:.4g} ms (p99 {level[key]['p99'] * 1e3:.4g})")
    return ", ".join(parts)
