"""Whether two sides compare at all, and what differs where they do not.

Some of it may be what was changed on purpose: the user then names it, and verdicts are given with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rocscope.comparison import mode, serving_levels
from rocscope.comparison.side import Side
from rocscope.errors import UsageError

ACROSS: Final = ("mode", "gpu", "dtype", "tp", "model")  # what may be declared as changed on purpose

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


@dataclass
class Likeness:
    """What differs between two sides."""

    why_not: list[str] = field(default_factory=list)  # makes them no comparison
    across: list[str] = field(default_factory=list)  # would, but was changed on purpose
    differs: list[str] = field(default_factory=list)  # does not


def check(across: Iterable[str]) -> tuple[str, ...]:
    """Return what was changed on purpose. Raises :class:`UsageError` for what cannot be."""
    found = tuple(dict.fromkeys(part.strip() for each in across for part in each.split(",") if part.strip()))
    for each in found:
        if each not in ACROSS:
            raise UsageError(f"--across {each}: nothing of that name", f"name some of {', '.join(ACROSS)}")
    return found


def likeness(base: Side, new: Side, across: Sequence[str] = ()) -> Likeness:
    """Return what differs between two sides, of which ``across`` was changed on purpose."""
    found = Likeness()
    for key, what, of in _FACTS:
        first, second = of(base), of(new)
        if first == second or first is None or second is None:
            continue
        text = f"{what}: {_words(first)} against {_words(second)}"
        (found.across if key in across else found.why_not).append(text)
    for side, name in ((base, "base"), (new, "new")):
        if not side.analysis.kernels and not _loaded(base, new):
            found.why_not.append(f"{name} holds no GPU kernels")
    models = _models(base, new)
    (found.across if "model" in across else found.why_not).extend(models)
    for what, of in _DIFFERENCES:
        first, second = of(base), of(new)
        if first != second and first is not None and second is not None:
            found.differs.append(f"{what}: {_words(first)} against {_words(second)}")
    return found


def why_not(base: Side, new: Side) -> list[str]:
    """Return what makes the two no comparison, in words; empty where they compare."""
    return likeness(base, new).why_not


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _loaded(base: Side, new: Side) -> bool:
    """Tell whether both sides have results of loads that compare, which they do without kernels as well."""
    return serving_levels.chosen(base, new) is not None


def _models(base: Side, new: Side) -> list[str]:
    if not base.model or not new.model:
        return []
    return [
        f"model: {name} is {base.model[name]} against {new.model[name]}"
        for name in _MODEL_FIELDS
        if name in base.model and name in new.model and base.model[name] != new.model[name]
    ]


def _gpus(side: Side) -> int | None:
    return len(side.analysis.gpus) if side.analysis.kernels else None


def _dtype(side: Side) -> str | None:
    """Return the type of activations: as the command says, else as the model's config does."""
    command = side.capture.manifest.command
    for at, word in enumerate(command):
        value = word.partition("=")[2] if word.startswith("--dtype=") else None
        if word == "--dtype" and at + 1 < len(command):
            value = command[at + 1]
        if value and value not in ("auto", "REDACTED"):
            return _DTYPES.get(value, value)
    told = (side.model or {}).get("torch_dtype") or (side.model or {}).get("dtype")
    return _DTYPES.get(told, told) if isinstance(told, str) else None


_DTYPES: Final = {"half": "float16", "float": "float32"}  # as vLLM takes them


def _quantisation(side: Side) -> str | None:
    if side.model is None:
        return None
    told = side.model.get("quantization_config")
    if not isinstance(told, dict):
        return "none"
    method, bits = told.get("quant_method"), told.get("bits") or told.get("w_bit")
    return " ".join(str(part) for part in (method, f"{bits} bits" if bits else None) if part) or None


def _provenance(side: Side) -> str:
    return "synthetic" if side.capture.manifest.provenance == "synthetic" else "recorded"


def _version(side: Side) -> str | None:
    return side.capture.manifest.profiler_version or None


_FACTS: Final[tuple[tuple[str, str, Callable[[Side], Any]], ...]] = (
    ("gpu", "GPU", lambda side: side.gpu_names or None),
    ("tp", "number of GPUs", _gpus),
    ("tp", "tensor-parallel size", lambda side: side.tp),
    ("dtype", "type of activations", _dtype),
    ("mode", "execution", mode.of),
    ("", "times taken under counters", lambda side: side.warned("perturbed-times")),
    ("", "data", _provenance),
)
_DIFFERENCES: Final[tuple[tuple[str, Callable[[Side], Any]], ...]] = (
    ("quantisation", _quantisation),
    ("profiler", lambda side: side.capture.manifest.profiler),
    ("profiler's version", _version),
)
