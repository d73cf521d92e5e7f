"""Power and energy of each GPU over the window, shared out to families, and for each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope import intervals
from rocscope.analyzers import gpu_samples, token_energy
from rocscope.analyzers.gpu_samples import LEAST_SAMPLES, GpuSamples, Meter, Series, Telemetry
from rocscope.study import Study
from rocscope.wording import duration, percent

_DISAGREE_FRAC: Final = 0.2  # between energy counter and power: then neither is told (AMD's own advice)
_JUDGED_S: Final = 5.0  # power sensors average over about a second: shorter windows are not held to that
_AT_CAP_FRAC: Final = 0.97  # of the cap: there the firmware holds the power
_SETTLED: Final = " without the first second, in which the sensor still averages what was before"
_WORKED_FRAC: Final = 0.9  # of the second before a reading, for it to be one of work; a tenth: of idling
_SHARED: Final = (
    "the energy of the window shared out by kernel time, idle time included: sensors cannot see single "
    "kernels, so a family that draws more than the mean is given too little"
)


class Power:
    """Puts energy, power and joules a token into ``telemetry``; no columns."""

    name = "power"
    help = "energy and power of each GPU, of families and of a token"
    needs = ("gpu", "family", "time_ns", "wall_ns")
    adds = ()

    def run(self, study: Study) -> None:
        """Do nothing where no GPU was sampled."""
        telemetry = Telemetry.read(study.capture)
        if not telemetry.gpus and not telemetry.unmatched:
            return
        told = study.telemetry
        told["not_set_against_kernels"] = telemetry.unrelated
        told["unmatched_devices"] = list(telemetry.unmatched)
        windows = {gpu: _window(study, telemetry, each) for gpu, each in telemetry.gpus.items()}
        at_work = gpu_samples.work(study.capture) if telemetry.unrelated is None else {}
        meters: dict[int, Energy] = {}
        for gpu, samples in telemetry.gpus.items():
            entry = _entry(study, gpu)
            entry |= _power(samples, windows[gpu], at_work.get(gpu))
            energy = energy_over(samples, *windows[gpu])
            entry["energy_j"] = energy.told() if isinstance(energy, Energy) else _unknown(energy)
            if isinstance(energy, Energy):
                meters[gpu] = energy
            elif energy.startswith("the energy counter"):
                study.warn("energy-disagrees", f"GPU {gpu}: {energy}")
            entry["families"] = _families(study, gpu, energy) if telemetry.unrelated is None else []
        token_energy.add(study, telemetry, meters)


@dataclass(frozen=True)
class Energy:
    """What a GPU used in a window."""

    joules: float  # of the covered seconds
    covered_s: float
    measured_s: float  # of which they are: the window, by power readings without its first second
    window_s: float
    meter: Meter

    @property
    def mean_w(self) -> float:
        """Mean power of the seconds that are known."""
        return self.joules / self.covered_s

    def told(self) -> dict[str, Any]:
        """Return the energy of the whole window, with its basis."""
        rest = self.measured_s - self.covered_s
        filled = (
            f"; {duration(rest * 1e9)} of the window have no reading and are taken at the same mean"
            if rest > 0.005 * self.measured_s
            else ""
        )
        return {
            "value": self.mean_w * self.window_s,
            "basis": "measured",
            "source": f"{self.meter.basis_of}{_SETTLED if self.measured_s < self.window_s else ''}{filled}",
            "mean_power_w": self.mean_w,
            "window_s": self.window_s,
            "covered_s": self.covered_s,
        }


def energy_over(samples: GpuSamples, first_ns: int, last_ns: int) -> Energy | str:
    """Return the energy of a GPU from ``first_ns`` to ``last_ns``, or why it is not known."""
    counter, power = (_enough(samples.get(name), first_ns, last_ns) for name in ("energy_j", "power_w"))
    if counter is None and power is None:
        return _few(samples, first_ns, last_ns)
    long = last_ns - first_ns >= gpu_samples.LEAST_BY_POWER_S * 1e9
    settled = first_ns + gpu_samples.SETTLING_NS
    by_power = _measure(Meter.of_power(power), first_ns, last_ns, settled) if power and long else None
    meter = Meter.of_counter(counter) if counter else None
    by_counter = _measure(meter, first_ns, last_ns) if meter else None
    found = by_counter or by_power
    if found is None and not long:
        return (
            f"the window of {duration(last_ns - first_ns)} is shorter than "
            f"{gpu_samples.LEAST_BY_POWER_S:g} s: power sensors average over about a second, and there is no "
            "energy counter"
        )
    if found is None:
        return f"less than {percent(gpu_samples.LEAST_COVERED_FRAC)} of the window lie between its readings"
    if by_counter and by_power and found.window_s >= _JUDGED_S:
        apart = abs(by_power.mean_w - by_counter.mean_w)
        if apart > _DISAGREE_FRAC * max(by_counter.mean_w, by_power.mean_w):
            return (
                f"the energy counter means {by_counter.mean_w:.4g} W and the power readings "
                f"{by_power.mean_w:.4g} W: they differ by more than {percent(_DISAGREE_FRAC)}, so neither is "
                "told as energy"
            )
    return found


def _measure(meter: Meter, first_ns: int, last_ns: int, since_ns: int | None = None) -> Energy | None:
    """Measure from ``since_ns``, by default the beginning, for the window from ``first_ns`` on."""
    since = first_ns if since_ns is None else since_ns
    joules, seconds = meter.between(np.array([since]), np.array([last_ns]))
    measured_s = (last_ns - since) * 1e-9
    if measured_s <= 0 or seconds[0] < gpu_samples.LEAST_COVERED_FRAC * measured_s:
        return None
    window_s = (last_ns - first_ns) * 1e-9
    return Energy(float(joules[0]), float(seconds[0]), measured_s, window_s, meter)


def _enough(series: Series | None, first_ns: int, last_ns: int) -> Series | None:
    """Return the whole series where enough of its readings lie in the window."""
    if series is None or len(series.between(first_ns, last_ns).times) < LEAST_SAMPLES:
        return None
    return series


def _few(samples: GpuSamples, first_ns: int, last_ns: int) -> str:
    known = [each for name in ("energy_j", "power_w") if (each := samples.get(name)) is not None]
    if not known:
        return "neither power nor an energy counter was sampled"
    count = max(len(each.between(first_ns, last_ns).times) for each in known)
    return (
        f"{count} readings lie in the window of {duration(last_ns - first_ns)}, fewer than {LEAST_SAMPLES}: "
        "sample faster, or record longer"
    )


def _unknown(why: str) -> dict[str, Any]:
    return {"value": None, "basis": None, "source": why}


def _window(study: Study, telemetry: Telemetry, samples: GpuSamples) -> tuple[int, int]:
    """Return the window that is analysed, and where there is none or no common clock, that of all samples."""
    window = gpu_samples.window_ns(study.capture) if telemetry.unrelated is None else None
    times = [each.times for each in samples.series.values()]
    return window or (min(int(t[0]) for t in times), max(int(t[-1]) for t in times))


def _entry(study: Study, gpu: int) -> dict[str, Any]:
    """Return the GPU's part of ``telemetry``, made where it is not there yet."""
    entries: list[dict[str, Any]] = study.telemetry.setdefault("gpus", [])
    found = next((each for each in entries if each["gpu"] == gpu), None)
    if found is None:
        entries.append(found := {"gpu": gpu})
    return found


def _power(
    samples: GpuSamples, window: tuple[int, int], work: tuple[NDArray[np.int64], NDArray[np.int64]] | None
) -> dict[str, Any]:
    """Return the readings' own figures: mean, at work and idle, and how near to the cap."""
    power, cap = samples.get("power_w"), samples.get("power_cap_w")
    inside = power.between(*window) if power else None
    first, last = window
    known = max(samples.series.values(), key=lambda each: len(each.times))
    told: dict[str, Any] = {
        "samples_from": list(samples.sources),
        "samples": len(known.between(first, last).times),
        "period_s": known.period_ns * 1e-9 or None,
        "window_s": (last - first) * 1e-9,
    }
    limit = float(np.median(cap.values)) if cap else None
    if inside is None or len(inside.times) < LEAST_SAMPLES:
        return {**told, "power_w": None, "power_cap_w": limit, "power_cap_frac": None, "at_cap_frac": None}
    share = _worked(inside.times, first, work)
    at_work, idle = inside.values[share >= _WORKED_FRAC], inside.values[share <= 1 - _WORKED_FRAC]
    mean = _mean(at_work)
    told["power_w"] = {
        "mean": float(inside.values.mean()),
        "at_work": mean,
        "idle": _mean(idle),
        "most": float(inside.values.max()),
        "basis": "measured",
        "source": "readings of the power sensor; at work and idle: whether kernels ran in the second before",
    }
    told["power_cap_w"] = limit
    told["power_cap_frac"] = mean / limit if mean is not None and limit else None
    near = float((at_work >= _AT_CAP_FRAC * limit).mean()) if mean is not None and limit else None
    return {**told, "at_cap_frac": near}


def _worked(
    times: NDArray[np.int64], first_ns: int, work: tuple[NDArray[np.int64], NDArray[np.int64]] | None
) -> NDArray[np.float64]:
    """Return for which share of the second before each reading the GPU worked; NaN where not recorded."""
    if work is None:
        return np.full(len(times), np.nan)
    since = times - gpu_samples.SETTLING_NS
    share = intervals.overlap(since, times, *work) / gpu_samples.SETTLING_NS
    return np.where(since >= first_ns, share, np.nan)


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) >= LEAST_SAMPLES else None


def _families(study: Study, gpu: int, energy: Energy | str) -> list[dict[str, Any]]:
    """Share the window's energy out by kernel time; see ``_SHARED``."""
    frame = study.kernels[study.kernels["gpu"] == gpu]
    times = frame.groupby("family")["time_ns"].sum().sort_values(ascending=False, kind="stable")
    total = float(times.sum())
    if isinstance(energy, str) or total <= 0:
        return []
    used = energy.mean_w * energy.window_s
    return [
        {
            "family": str(family),
            "time_frac": float(time) / total,
            "energy_j": used * float(time) / total,
            "basis": "modelled",
            "source": _SHARED,
        }
        for family, time in times.items()
    ]


ANALYZER = Power()
