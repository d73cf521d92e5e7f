"""The ceilings that this machine keeps of its cards, put into the manifest of what was recorded on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rocscope import ceilings_choice, hardware
from rocscope.collectors import sysfs, telemetry_match
from rocscope.collectors.gpu_device import Device, Unavailable, kfd_nodes
from rocscope.collectors.telemetry import TelemetrySampler
from rocscope.collectors.telemetry_sources import sysfs_root

if TYPE_CHECKING:
    from rocscope.capture import Capture
    from rocscope.collectors.live_outcome import Outcome
    from rocscope.config import ProfileOptions

_ELSEWHERE: Final = ("replay", "none")  # no kernels of this machine's cards


def note(capture: Capture, outcome: Outcome, options: ProfileOptions) -> None:
    """Add them to the manifest, which so says that one has looked; files that cannot be used are noticed."""
    manifest = capture.manifest
    name = outcome.run.backend.name
    if name in _ELSEWHERE:
        return
    environment = outcome.run.environment
    devices = _devices(outcome)
    nodes = kfd_nodes(sysfs_root(environment))
    found = telemetry_match.match(manifest.gpus, devices, nodes, environment, name)
    by_bdf = {device.bdf: device for device in devices}
    cards = {int(subject.removeprefix("gpu:")): by_bdf[bdf] for bdf, subject in found.subjects.items()}
    gpus = {}
    for gpu in manifest.gpus:
        card = cards.get(gpu.gpu)
        spec = (
            hardware.by_name(options.gpu)
            if options.gpu
            else hardware.identify(
                arch=gpu.arch or (card.arch if card else ""),
                name=gpu.name or (card.name if card else ""),
                compute_units=gpu.compute_units,
                memory_bytes=gpu.memory_bytes,
            )
        )
        gpus[gpu.gpu] = (gpu, spec)
    ids = {number: card.uuid for number, card in cards.items()}
    kept, faults = ceilings_choice.of_this_machine(gpus, ids, environment)
    read = manifest.ceilings or []  # that the profiler measured in this run
    manifest.ceilings = [*read, *(each for each in kept if each.gpu not in {one.gpu for one in read})]
    for fault in faults:
        capture.notice("ceilings-unusable", f"measured ceilings are not used: {fault}")


def _devices(outcome: Outcome) -> list[Device]:
    """Return the cards of this machine as telemetry found them, else as the driver's files tell."""
    for sampler in outcome.samplers:
        if isinstance(sampler, TelemetrySampler) and sampler.devices:
            return sampler.devices
    reader = sysfs.Reader(sysfs_root(outcome.run.environment))
    try:
        reader.open()
    except Unavailable:
        return []
    return reader.devices
