"""Whether two recordings compare at all, and what differs where they do not."""

from __future__ import annotations

from typing import Final

from rocscope.comparison import serving_levels
from rocscope.comparison.side import Side

_MODEL_FIELDS: Final = (  # what makes a model another one; quantisation may be what is compared
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "num_experts",
)


def why_not(base: Side, new: Side) -> list[str]:
    """Return what makes the two no comparison, in words; empty where they compare."""
    why = []
    for what, of in (
        ("GPU", lambda side: side.gpu_names),
        ("number of GPUs", lambda side: len(side.analysis.gpus)),
        ("tensor-parallel size", lambda side: side.tp),
        ("times taken under counters", lambda side: side.warned("perturbed-times")),
    ):
        first, second = of(base), of(new)
        if first != second and None not in (first, second):
            why.append(f"{what}: {first} against {second}")
    loads = serving_levels.chosen(base, new) is not None
    for side, name in ((base, "base"), (new, "new")):
        if not side.analysis.kernels and not loads:
            why.append(f"{name} holds no GPU kernels")
    if base.model and new.model:
        why += [
            f"model: {field} is {base.model[field]} against {new.model[field]}"
            for field in _MODEL_FIELDS
            if field in base.model and field in new.model and base.model[field] != new.model[field]
        ]
    return why
