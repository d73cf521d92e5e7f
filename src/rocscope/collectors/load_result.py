"""What a load measured, in a file beside a recording or alone: tokens a second and latencies by level.

Several files of one run are several levels, or the same level again. Whether a profiler was on meanwhile such
a file does not tell.
"""

from __future__ import annotations

import re
from typing import Any, Final

from rocscope import load_samples
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.salvage import SalvagedStream
from rocscope.collectors.source import Source
from rocscope.errors import InputError
from rocscope.traffic import level, per_request, result

RUN: Final = "beside"
_JSON: Final = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*[\[{]")
_RATE: Final = re.compile(rb'"(?:' + "|".join(level.RATES).encode() + rb')"\s*:')
_OTHERS: Final = re.compile(rb'"(?:traceEvents|schema_version|capture)"\s*:')  # traces, and what we write
_OURS: Final = re.compile(rb'"kind"\s*:\s*"builtin"')


class LoadResult:
    """A JSON file of our generator, of ``vllm bench serve``, or a plain list of levels."""

    name = "load-result"
    help = (
        "JSON of a load: rocscope's, vllm bench serve's, or a list with concurrency and output_tokens_per_s"
    )
    order = 97
    content = "description"
    companion = True

    def recognises(self, source: Source) -> bool:
        """It is JSON and names a rate of output tokens, which no trace does."""
        head = source.head
        return bool(
            _JSON.match(head) and _RATE.search(head) and (_OURS.search(head) or not _OTHERS.search(head))
        )

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add the levels to the manifest's load, and what single requests took to the samples."""
        import msgspec

        with source.stream() as stream:
            body = SalvagedStream(stream).read(result.MAX_BYTES + 1)
        if len(body) > result.MAX_BYTES:
            raise InputError(
                f"{source.name}: over {result.MAX_BYTES >> 20} MiB, no result of a load", "check the file"
            )
        try:
            raw = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"{source.name}: no JSON ({error})", "copy the file again") from error
        kind, found = result.raw_levels(raw, source.name)
        before: dict[str, Any] = builder.manifest.get("load") or {
            "kind": kind,
            RUN: {"kind": kind, "levels": []},
        }
        levels = list(before[RUN]["levels"])
        for each in found:
            for rows, columns in load_samples.columns(RUN, len(levels), per_request.of_level(each)):
                builder.append("samples", rows, **columns)
            levels.append(level.read(each))
        builder.manifest["load"] = {**before, RUN: {"kind": before[RUN]["kind"], "levels": levels}}


READERS = (LoadResult(),)
