"""How many waves can be resident, by what a kernel takes of a compute unit, and what a launch fills.

A workgroup is resident as a whole. What limits it: wave slots and workgroup slots of the CU, vector and
scalar registers, LDS. On gfx908 vector and accumulation registers are separate files of one size, and a wave
takes as many of both, so that those recorded as accumulation registers are "allocated, not used" and add
nothing; from gfx90a on they share one file. On NVIDIA GPUs registers a thread, warps, and shared memory with
what the system takes of each block. Sources: AMD's CDNA instruction set guides and LLVM's AMDGPU usage guide
(allocation granules), NVIDIA's CUDA programming guide (compute capability 9.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from rocscope import launch_groups
from rocscope.hardware import GpuSpec
from rocscope.study import Study

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

_MOST_SGPRS: Final = 112  # of a wave, with those the hardware adds, on gfx9
_ACCUM_GRANULE: Final = 4  # where accumulation registers start in a unified file
_ROUNDED: Final = 0.95  # counters of several passes disagree by so much
_LAST_DIGIT: Final = 0.01  # of waves, as tools print them
_SHORT: Final = 3.0  # occupancy of kernels of 2 us was recorded as up to 2.5 times what was launched
_SAME: Final = 0.005  # of occupancy, so that a share given in per cent is recognised


class OccupancyLimits:
    """Adds workgroups, waves, waves per CU and theoretical occupancy where they are not given."""

    name = "occupancy"
    help = (
        "theoretical occupancy from registers, LDS and workgroup size, what limits it, and what is launched"
    )
    needs = (
        *("gpu", "wave_size", "vgprs", "agprs", "sgprs", "lds_bytes", "measures_source"),
        "achieved_occupancy_frac",
        *("grid_x", "grid_y", "grid_z", "workgroup_x", "workgroup_y", "workgroup_z"),
    )
    adds = (
        *("workgroups", "waves", "waves_per_cu", "theoretical_occupancy_frac", "occupancy_limited_by"),
        "active_cus",  # that have a workgroup at all: a launch is spread over all CUs
        "active_cus_frac",
    )

    def run(self, study: Study) -> None:
        """Fill what is not measured or given; NaN and ``None`` where registers or LDS are not recorded."""
        import pandas as pd

        frame = study.kernels
        for name in ("workgroups", "waves", "waves_per_cu", "theoretical_occupancy_frac"):
            if name not in frame:
                frame[name] = np.nan
        _fill(frame, "workgroups", launch_groups.launch_workgroups(frame), "launch geometry")
        _fill(frame, "waves", launch_groups.launch_waves(frame, study.specs), "launch geometry")
        cus = _of_gpu(frame, study.specs, lambda spec: spec.compute_units)
        _withhold_contradicted(frame, study, cus)
        frame["active_cus"] = frame["workgroups"].clip(upper=cus).where(cus.notna())
        frame["active_cus_frac"] = frame["active_cus"] / cus
        names = np.full(len(frame), None, object)
        resident, own = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
        for gpu, spec in study.specs.items():
            here = np.flatnonzero(frame["gpu"] == gpu)
            if spec is not None and len(here):
                own[here], resident[here], names[here] = limits(frame.iloc[here], spec)
        given = frame["theoretical_occupancy_frac"].to_numpy(float)
        _fill(frame, "theoretical_occupancy_frac", pd.Series(own, frame.index), "registers, LDS, workgroup")
        differs = ~np.isnan(given) & ~(np.abs(given - own) < _SAME)
        names[differs] = None  # what was given counts, and its reason is not ours
        per_group = frame["waves"] / frame["workgroups"]
        slots = _of_gpu(frame, study.specs, lambda spec: spec.waves_per_cu)
        known = frame["theoretical_occupancy_frac"]
        groups = pd.Series(resident, frame.index).mask(pd.Series(differs, frame.index))
        groups = groups.fillna((known * slots / per_group).round())
        full = (frame["workgroups"] / (cus * groups)).where(groups > 0)
        _fill(frame, "waves_per_cu", full, "launch geometry and theoretical occupancy")
        thin = (frame["waves"] / (cus * slots) < known - _SAME).to_numpy(bool)
        names[thin] = "grid"
        frame["occupancy_limited_by"] = pd.Series(names, index=frame.index, dtype=object)


def _withhold_contradicted(frame: pd.DataFrame, study: Study, cus: pd.Series) -> None:
    """Withhold the size of a launch that its own measures exceed: a side of the grid was not recorded.

    A full wave has a workgroup a CU at least, and a CU holds no more waves than it was given.
    """
    slots = _of_gpu(frame, study.specs, lambda spec: spec.waves_per_cu)
    groups, waves = frame["workgroups"], frame["waves"]
    given = waves / (groups.clip(upper=cus) * slots)
    wrong = groups < (frame["waves_per_cu"] * _ROUNDED - _LAST_DIGIT) * cus
    wrong |= given * _SHORT < frame["achieved_occupancy_frac"]
    if wrong.any():
        study.warn(
            "launch-contradicted",
            f"{int(wrong.sum())} kernels and shapes had more waves at the same time than their grid has at "
            "all (is a side of it missing?), so it decides no label",
        )
        frame.loc[wrong, ["workgroups", "waves"]] = np.nan


def limits(frame: pd.DataFrame, spec: GpuSpec) -> tuple[Floats, Floats, NDArray[np.object_]]:
    """Return theoretical occupancy (0 to 1), resident workgroups a CU, and what limits them.

    NaN and ``None`` where what is not recorded could change the answer. The names are ``vgprs``, ``agprs``,
    ``sgprs``, ``lds``, ``workgroup-slots`` and ``wave-slots`` (workgroups that do not divide them evenly);
    ``None`` at full occupancy.
    """
    wave = frame["wave_size"].to_numpy(float)
    wave = np.where(np.isnan(wave), spec.wave_size, wave)
    waves = np.ceil(launch_groups.workgroup_items(frame).to_numpy(float) / wave)
    slots = float(spec.waves_per_cu)
    with np.errstate(divide="ignore", invalid="ignore"):
        by = {
            "wave-slots": np.floor(slots / waves),
            "workgroup-slots": np.where(waves > 1, spec.workgroups_per_cu, slots)
            if spec.vendor == "amd"  # only workgroups of several waves take a barrier slot
            else np.full(len(waves), float(spec.workgroups_per_cu)),
            **{name: np.floor(each / waves) for name, each in _by_registers(frame, spec).items()},
            "lds": _by_lds(frame, spec),
        }
    table = np.vstack(list(by.values()))
    unsure = np.isnan(table).any(axis=0) | (wave != spec.wave_size) | spec.arch.startswith("gfx1")
    groups = np.where(unsure, np.nan, np.fmin.reduce(table, axis=0))
    groups = np.where(groups > 0, groups, np.nan)  # does not fit at all: what was recorded is not true
    occupancy = groups * waves / slots
    names = np.array(list(by), object)[np.argmin(np.where(np.isnan(table), np.inf, table), axis=0)]
    names[np.isnan(occupancy) | (occupancy >= 1)] = None
    return occupancy, groups, names


def _by_registers(frame: pd.DataFrame, spec: GpuSpec) -> dict[str, Floats]:
    """Return the waves a CU has registers for, by kind of register."""
    vgprs, agprs, sgprs = (frame[name].to_numpy(float) for name in ("vgprs", "agprs", "sgprs"))
    granule, per_cu = spec.vgpr_granule, spec.simds_per_cu
    found = {}
    if spec.unified_vgprs:
        start = np.ceil(np.maximum(vgprs, 1) / _ACCUM_GRANULE) * _ACCUM_GRANULE
        both = np.where(agprs > 0, start + agprs, vgprs + 0 * agprs)  # NaN where agprs are not recorded
        found["vgprs"] = _fit(both, granule, spec.vgprs_per_simd) * per_cu
    else:
        found["vgprs"] = _fit(vgprs, granule, spec.vgprs_per_simd) * per_cu
        if spec.agprs_per_simd:  # as many as vgprs where not recorded: the two are allocated together
            more = np.where(np.isnan(agprs), vgprs, agprs)
            found["agprs"] = _fit(more, granule, spec.agprs_per_simd) * per_cu
    if spec.sgprs_per_simd:
        least = _fit(np.full(len(sgprs), float(_MOST_SGPRS)), spec.sgpr_granule, spec.sgprs_per_simd) * per_cu
        scalar = _fit(sgprs, spec.sgpr_granule, spec.sgprs_per_simd) * per_cu
        # not recorded, but vector registers allow no more waves than the most scalar ones would
        found["sgprs"] = np.where(np.isnan(sgprs) & (found["vgprs"] <= least), least, scalar)
    return found


def _fit(registers: Floats, granule: int, file: int) -> Floats:
    """Return the waves of a SIMD whose registers fit into its file."""
    return np.floor(file / (np.ceil(np.maximum(registers, 1) / granule) * granule))


def _by_lds(frame: pd.DataFrame, spec: GpuSpec) -> Floats:
    lds = frame["lds_bytes"].to_numpy(float)
    taken = np.ceil((lds + spec.lds_reserved_bytes) / spec.lds_granule_bytes) * spec.lds_granule_bytes
    fits = np.floor(spec.lds_bytes_per_cu / np.maximum(taken, 1))
    return np.where(lds + spec.lds_reserved_bytes == 0, np.inf, fits)


def _of_gpu(
    frame: pd.DataFrame, specs: dict[int, GpuSpec | None], figure: Callable[[GpuSpec], int]
) -> pd.Series:
    return frame["gpu"].map({gpu: figure(spec) for gpu, spec in specs.items() if spec}).astype(float)


def _fill(frame: pd.DataFrame, name: str, values: pd.Series, source: str) -> None:
    """Fill what is not known yet, and say where it is from."""
    new = frame[name].isna() & values.notna()
    frame[name] = frame[name].fillna(values)
    for told in frame["measures_source"].to_numpy()[new.to_numpy()]:
        told[name] = source


ANALYZER = OccupancyLimits()
