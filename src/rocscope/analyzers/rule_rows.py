"""What rules compare: facts of each row of kernels, derived from its columns, and facts of the recording."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rocscope import log_lines, ranking
from rocscope.analyzers import gpu_samples, sensors
from rocscope.analyzers.gpu_samples import Telemetry
from rocscope.analyzers.limiter import workgroups
from rocscope.errors import InputError
from rocscope.rules import Rule
from rocscope.study import Study

if TYPE_CHECKING:
    import pandas as pd

_PACKED: Final = ("gptq_gemm", "awq_gemm", "gguf_gemm", "bnb_gemm", "dequant")
_AT_LOAD: Final = "gptq_load_shuffle"  # once a layer, not a product
_TILE: Final = re.compile(r"MT(\d+)x(\d+)|tilesize(\d+)x(\d+)|nvjet_[a-z0-9]+_[a-z]+_(\d+)x(\d+)_")
_BITS: Final = re.compile(r"_([2348])bit")
_COPIED: Final = (
    *(
        "gpu",
        "kernel",
        "raw_name",
        "family",
        "limiter",
        "bound",
        "dispatches",
        "mean_ns",
        "bytes",
        "bandwidth_frac",
    ),
    *("intensity_flop_per_byte", "lds_conflict_frac", "theoretical_occupancy_frac", "occupancy_limited_by"),
)
CLOCK_METRIC: Final = "clock_hz"  # of samples whose subject is gpu:N


def rows(study: Study) -> pd.DataFrame:
    """Return a row for each row of kernels, with the facts of :mod:`rocscope.rule_facts`; NaN unknown."""
    import pandas as pd

    frame = study.kernels
    found = pd.DataFrame({name: frame[name] for name in _COPIED if name in frame}, index=frame.index)
    total = float(frame["time_ns"].sum())
    found["time_frac"] = frame["time_ns"] / total if total > 0 else np.nan
    found["arch"] = [_arch(study, int(gpu)) for gpu in frame["gpu"]]
    for name in ("m", "bits"):
        found[name] = [_shape(shape, name) for shape in frame["problem_shape"]]
    found["bits"] = found["bits"].fillna(frame["kernel"].map(_bits))
    found["tile_least"] = frame["raw_name"].map(_tile)
    groups = workgroups(frame) if len(frame) else frame["grid_x"]
    if "workgroups" in frame:
        groups = frame["workgroups"].fillna(groups)
    units = {gpu: spec.compute_units for gpu, spec in study.specs.items() if spec is not None}
    found["workgroups"] = groups
    found["workgroups_per_cu"] = groups / frame["gpu"].map(units).astype(float)
    found["per_packed_product"] = _per_product(frame)
    found["bytes_over_16_bit"] = _over_16_bit(frame, found["bits"])
    found["sector_share"] = _sector_share(study)
    if "l2_bytes" in frame:
        # requests of which not every one is a full line are an upper bound, and prove nothing here
        exact = np.array(
            ["at most" not in told.get("l2_bytes", "") for told in frame["measures_source"]], bool
        )
        found["l2_over_memory"] = frame["l2_bytes"].where(exact) / frame["bytes"].where(frame["bytes"] > 0)
    return found


def recording(study: Study, rules: tuple[Rule, ...]) -> dict[str, Any]:
    """Return what is known of the recording, by the names that rules use."""
    manifest = study.capture.manifest
    facts: dict[str, Any] = {"quantised": bool(study.kernels["family"].isin(_PACKED).any())}
    for name in {each.fact for rule in rules for when in rule.when for each in when.comparisons}:
        if name.startswith("environment.") and manifest.environment:
            facts[name] = manifest.environment.get(name.removeprefix("environment."), "")
    if manifest.log_lines is not None:
        facts |= {f"log.{kind}": manifest.log_lines.get(kind, 0) for kind in log_lines.KINDS}
    return facts | _model(study) | _clock(study)


def _arch(study: Study, gpu: int) -> str | None:
    spec = study.specs.get(gpu)
    recorded = {each.gpu: each.arch for each in study.capture.manifest.gpus}.get(gpu, "")
    return spec.arch if spec is not None else recorded.split(":", maxsplit=1)[0] or None


def _shape(shape: object, name: str) -> float:
    value = shape.get(name) if isinstance(shape, dict) else None
    return float(value) if isinstance(value, int | float) else float("nan")


def _bits(kernel: str) -> float:
    match = _BITS.search(kernel)
    return 4.0 if kernel == "awq_dequantize_kernel" else float(match[1]) if match else float("nan")


def _tile(name: str) -> float:
    match = _TILE.search(name)
    return float(min(int(side) for side in match.groups() if side)) if match else float("nan")


def _per_product(frame: pd.DataFrame) -> pd.Series:
    """Dispatches of a raw name over those of products with packed weights, on the same GPU; 0 without any."""
    packed = frame["family"].isin(_PACKED) & (frame["subfamily"] != _AT_LOAD)
    products = frame["dispatches"].where(packed, 0).groupby(frame["gpu"]).transform("sum")
    times = frame.groupby(["gpu", "raw_name"])["dispatches"].transform("sum")
    return (times / products.where(products > 0)).fillna(0.0)


def _over_16_bit(frame: pd.DataFrame, bits: pd.Series) -> pd.Series:
    """Bytes of a dequantising kernel and of its product, over those of 16-bit weights, of N, K and M.

    16-bit weights: ``2*N*K`` and ``2*M*(N + K)`` of activations. The product is the dense one of the same
    sizes on the same GPU. Where sizes are not known, by the bits alone: ``bits / 8`` read, two bytes written
    and two read again, over two, as where few rows share the weights. NaN for other kernels.
    """
    import pandas as pd

    unpacks = (frame["family"] == "dequant") & ~(bits > 8)
    ratio = ((bits / 8 + 4) / 2).where(unpacks)
    sizes = pd.DataFrame(
        {name: [_shape(shape, name) for shape in frame["problem_shape"]] for name in ("n", "k", "m")},
        frame.index,
    ).assign(gpu=frame["gpu"])
    dense = (frame["family"] == "gemm") & frame["bytes"].notna() & sizes.notna().all(axis=1)
    keys = ["gpu", "n", "k", "m"]
    # of several products of these sizes, the one of fewest bytes: the ratio is then the least there is
    product = frame.loc[dense, "bytes"].groupby([sizes.loc[dense, key] for key in keys]).min()
    if not unpacks.any() or product.empty:
        return ratio
    wanted = pd.MultiIndex.from_frame(sizes[keys])
    moved = frame["bytes"] + product.reindex(wanted).to_numpy()
    n, k, m = (sizes[name] for name in ("n", "k", "m"))
    counted: pd.Series = moved / (2 * n * k + 2 * m * (n + k))
    return counted.where(unpacks).fillna(ratio)


def _sector_share(study: Study) -> pd.Series | float:
    frame = study.kernels
    if "global_load_sectors" not in frame:
        return float("nan")
    wave = {gpu: spec.wave_size for gpu, spec in study.specs.items() if spec is not None}
    size = frame["wave_size"].fillna(frame["gpu"].map(wave).astype(float))
    asked = frame["global_load_requests"]
    return frame["global_load_sectors"] / asked.where(asked > 0) / size


def _model(study: Study) -> dict[str, Any]:
    source = study.options.model or study.capture.manifest.model
    if source is None:
        return {}
    from rocscope.models.served import ServedModel

    try:
        packed = ServedModel.load(source, 1).quantization
    except InputError:  # said as model-unusable already
        return {}
    if packed is None:
        return {"model.quant_method": "", "model.group_size": 0}
    return {"model.quant_method": packed.method, "model.group_size": packed.group_size}


def _clock(study: Study) -> dict[str, Any]:
    """Return the lowest median clock of a GPU while it worked, over its peak clock, and how busy it was.

    Samples between kernels do not count, as a GPU without work lowers its clock by itself. GPUs that wait
    for a late one are left out: at a higher clock they would wait longer.
    """
    telemetry, window = Telemetry.read(study.capture), ranking.window_ns(study.kernels)
    if not telemetry.gpus or telemetry.unrelated or window <= 0:
        return {}
    deciding = set(study.kernels.loc[study.kernels["critical"].astype(bool), "gpu"])
    runs, found = gpu_samples.work(study.capture), []
    for gpu, spec in study.specs.items():
        samples = telemetry.gpus.get(gpu)
        if spec is None or gpu not in deciding or gpu not in runs or samples is None:
            continue
        clocks = sensors.clock(samples.get(CLOCK_METRIC), None, runs[gpu])
        if clocks is not None:
            busy = gpu_samples.busy_ns(study.capture, gpu)
            found.append((clocks["median"] / spec.clock_hz.value, busy / window))
    if not found:
        return {}
    clock, share = min(found)
    return {"telemetry.clock_frac": clock, "telemetry.busy_frac": min(1.0, share)}
