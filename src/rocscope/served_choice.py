"""Which model a recording is of, as the user says, else as it was recorded."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rocscope.capture import Capture
from rocscope.config import AnalyzeOptions
from rocscope.errors import InputError
from rocscope.findings import Warned

if TYPE_CHECKING:
    from rocscope.models.served import ServedModel

_ONE_OF_SEVERAL: Final = re.compile(r"_TP\d+\b")  # as vLLM names the workers of a model that is split


def _several(capture: Capture) -> bool:
    """Tell whether this is a run, or one rank of a run, on several GPUs. Idle GPUs of the node count not."""
    import pyarrow.compute as pc

    manifest = capture.manifest
    if (manifest.world_size or 1) > 1 or len(pc.unique(capture.dispatches["gpu"])) > 1:
        return True
    split = any(_ONE_OF_SEVERAL.search(each.name) for each in manifest.processes)
    return any(each.rank for each in manifest.processes) or (split and manifest.world_size is None)


def served(capture: Capture, options: AnalyzeOptions) -> tuple[ServedModel | None, Warned | None]:
    """Return the served model (of ``--model``, else of the manifest), or why what is known is not used.

    Where several GPUs ran and nothing says how the model was split over them, its shapes are not known.
    Raises :class:`InputError` for a ``--model`` that cannot be used.
    """
    source = options.model or capture.manifest.model
    if source is None:
        return None, None
    from rocscope.models.served import ServedModel
    from rocscope.models.served_attention import cache_bits, whole_experts

    size = options.tp or capture.manifest.model_tp
    if size is None and _several(capture):
        if options.model:
            ServedModel.load(options.model, 1)  # what the user named is checked, used or not
        text = "several GPUs ran, and how the model was split over them is not recorded"
        return None, Warned(code="tp-unknown", message=f"{text}: its shapes are not used; say --tp")
    try:
        found = ServedModel.load(source, size or 1)
        if bits := cache_bits(capture.manifest.command):
            found = replace(found, kv_cache_bits=bits)
        if whole_experts(capture.manifest.command):
            found = replace(found, expert_parallel=True)
        return found, None
    except InputError as error:
        if options.model:
            raise
        return None, Warned(code="model-unusable", message=f"the recorded model is not used: {error.message}")
