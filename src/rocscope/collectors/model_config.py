"""The served model's ``config.json`` beside a recording: its shapes size kernels that do not tell them."""

from __future__ import annotations

import json
import re
from typing import Final

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source
from rocscope.errors import InputError

_MOST_BYTES: Final = 16 << 20
_KEYS: Final = tuple(re.compile(rf'"{name}"\s*:'.encode()) for name in ("hidden_size", "num_hidden_layers"))


class ModelConfig:
    """One file, as a model's folder has it."""

    name = "model-config"
    help = "a served model's config.json (beside a recording)"
    order = 98
    content = "description"
    companion = True

    def recognises(self, source: Source) -> bool:
        """It is a JSON object with a model's width and its number of layers."""
        return source.head.lstrip().startswith(b"{") and all(key.search(source.head) for key in _KEYS)

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Keep it as the model that was served. Raises :class:`InputError` where it is no JSON object."""
        with source.stream() as stream:
            body = stream.read(_MOST_BYTES + 1)
        if len(body) > _MOST_BYTES:
            raise InputError(f"{source.name}: too large for a model's config", "name it with --model")
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source.name}: no JSON ({error})", "copy the file again") from error
        builder.manifest["model"] = raw


READERS = (ModelConfig(),)
