"""Whether power, clocks and temperatures can be read, by the way that a profile would read them."""

from __future__ import annotations

import time
from typing import Any, Final

from rocscope.collectors.telemetry import Deadlines, TelemetrySampler
from rocscope.collectors.telemetry_sources import SYSFS_VARIABLE, sources
from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import Machine

WAIT_S: Final = 6.0
_HZ: Final = 10.0
_OWN: Final = "rocscope"


class Telemetry(Base):
    """Reads each GPU once, through AMD SMI, the driver's files or NVML, in a process of its own."""

    name = "telemetry"
    title = "GPU telemetry"
    help = (
        "AMD SMI (the binding is probed in a process of its own), the driver's files or NVML: what they give"
    )
    order = 80
    deadline_s = WAIT_S + 3

    def run(self, machine: Machine) -> Finding:
        """Wait for the first reading."""
        environment = dict(machine.environment)
        if not machine.own:
            environment[SYSFS_VARIABLE] = str(machine.at("sys"))
        ways = sources("auto", environment)
        if not ways:
            return self.unknown("no GPU to read")
        sampler = TelemetrySampler(ways, _HZ, Deadlines(start_s=WAIT_S / 2, silent_s=1, stop_s=0.5))
        until = time.monotonic() + WAIT_S
        while sampler.source is None and time.monotonic() < until and sampler.trying:
            time.sleep(0.02)
        sampler.stop()
        notices = [text for _, text in sampler.notices]
        source = sampler.source
        if source is None:
            return self.warn(
                "; ".join(notices) or f"no reading within {WAIT_S:g} s",
                advice="profiles will lack power and clocks; join the groups render and video, or install "
                "amdsmi or rocscope[nvidia]",
                details={"tried": [way.label for way in ways]},
            )
        columns = sampler.readings.columns()
        subjects, metrics = columns.subject, columns.metric
        given: dict[str, set[str]] = {}
        for subject, metric in zip(subjects[0], metrics[0], strict=True):
            given.setdefault(subjects[1][subject], set()).add(metrics[1][metric])
        given.pop(_OWN, None)
        details: dict[str, Any] = {
            "source": source.label,
            "tried": [way.label for way in ways],
            "gpus": {subject: sorted(names) for subject, names in given.items()},
        }
        whole = sorted(set.intersection(*given.values())) if given else []
        text = next(iter(notices), source.label)
        if "power_w" not in whole:
            return self.warn(f"{text}; no power", advice="energy of kernels will be missing", details=details)
        return self.ok(f"{text}: {', '.join(whole)}", details=details)


CHECKS = (Telemetry(),)
