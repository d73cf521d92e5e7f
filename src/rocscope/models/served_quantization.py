"""How a model's weights are packed, out of the ``quantization_config`` of its ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from rocscope.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class _Weights(BaseModel):
    model_config = ConfigDict(extra="ignore")

    num_bits: int | None = Field(default=None, gt=0, le=32)
    group_size: int | None = None
    actorder: str | bool | None = None
    symmetric: bool | None = None


class _Quantization(BaseModel):
    model_config = ConfigDict(extra="ignore")

    quant_method: str = ""
    bits: int | None = Field(default=None, gt=0, le=32, validation_alias=AliasChoices("bits", "w_bit"))
    group_size: int | None = Field(default=None, validation_alias=AliasChoices("group_size", "q_group_size"))
    desc_act: bool = False
    sym: bool | None = None
    zero_point: bool | None = None
    dynamic: dict[str, Any] | None = None  # layers that differ from the rest, by patterns of names
    lm_head: bool = False
    config_groups: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Quantization:
    """How the weights are packed. ``group_size`` is in rows of K; -1 is one group for all of K."""

    method: str  # "gptq", "awq", "compressed-tensors"…
    bits: int | None
    group_size: int | None
    act_order: bool
    lm_head: bool = False
    zero_points: bool = False  # whether weights are known to have some; not read by kernels where not

    def groups(self, k: int) -> int | None:
        """Return the number of scale rows for ``k`` rows of weights, or ``None`` where it is not known."""
        if self.group_size is None:
            return None
        return 1 if self.group_size <= 0 else -(-k // self.group_size)

    def group_rows(self, k: int) -> int | None:
        """Return the rows that share a scale, all ``k`` where there is one group."""
        return k if self.group_size is not None and self.group_size <= 0 else self.group_size


def quantization(data: dict[str, Any] | None, where: str) -> Quantization | None:
    """Read ``quantization_config``; ``where`` names the file in errors (:class:`InputError`)."""
    if not data:
        return None
    config = validated(_Quantization, data, f"{where}: quantization_config")
    bits, group_size, act_order = config.bits, config.group_size, config.desc_act
    zeros = config.sym is False or (config.quant_method == "awq" and config.zero_point is not False)
    if config.dynamic:
        bits = group_size = None
    groups = [group.get("weights") for group in config.config_groups.values()]
    if groups:  # compressed-tensors; several groups that differ cannot be told apart by a launch
        weights = [
            validated(_Weights, w, f"{where}: config_groups.weights") for w in groups if isinstance(w, dict)
        ]
        if len(weights) == len(groups) and all(w == weights[0] for w in weights):
            bits, group_size = weights[0].num_bits, weights[0].group_size or -1
            act_order = weights[0].actorder not in (None, False, "static", "weight")
            zeros = weights[0].symmetric is False
    return Quantization(config.quant_method, bits, group_size, act_order, config.lm_head, zeros)


def validated(model: type[Model], data: dict[str, Any], where: str) -> Model:
    """Return ``data`` as ``model``; raises :class:`InputError` that names the first wrong field."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{where}: {name}: {first['msg']}", "is this the served model's config.json?"
        ) from error
