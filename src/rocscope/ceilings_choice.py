"""Which measured ceilings an analysis uses: what the capture carries, this machine keeps, a file has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rocscope import ceilings, ceilings_store
from rocscope.capture import Gpu, Manifest
from rocscope.ceilings import CardCeilings, RecordedCeilings
from rocscope.errors import InputError, UsageError
from rocscope.findings import Warned
from rocscope.hardware import OR, GpuSpec

AUTO: Final = "auto"
NONE: Final = "none"
Specs = dict[int, GpuSpec | None]


def apply(
    manifest: Manifest, specs: Specs, choice: str, environment: Mapping[str, str] | None = None
) -> tuple[Specs, list[Warned]]:
    """Return the GPUs with measured ceilings where there are any, and what could not be used.

    A capture of ``rocscope profile`` carries those of its own cards, so that it is analysed alike everywhere;
    other recordings take those that this machine keeps of the same model. Raises :class:`InputError` for a
    named file that cannot be used.
    """
    if choice == NONE:
        return specs, []
    if choice != AUTO:
        return _named(Path(choice), manifest.gpus, specs), []
    if manifest.ceilings is not None:
        carried = {each.gpu: each for each in manifest.ceilings}
        return {
            gpu: _with(spec, carried[gpu].ceilings, same_card=carried[gpu].same_card)
            if spec and gpu in carried
            else spec
            for gpu, spec in specs.items()
        }, []
    cards, faults = ceilings_store.load(
        ceilings_store.folder(os.environ if environment is None else environment)
    )
    warned = [
        Warned(code="ceilings-unusable", message=f"measured ceilings are not used: {f}") for f in faults
    ]
    return _kept(cards, manifest.gpus, specs), warned


def of_this_machine(
    gpus: Mapping[int, tuple[Gpu, GpuSpec | None]], uuids: Mapping[int, str], environment: Mapping[str, str]
) -> tuple[list[RecordedCeilings], list[str]]:
    """Return what this machine keeps of the GPUs of a recording made on it, for its manifest, and faults."""
    cards, faults = ceilings_store.load(ceilings_store.folder(environment))
    found = []
    for number, (gpu, spec) in gpus.items():
        kept = (
            ceilings_store.find(cards, spec, uuid=uuids.get(number, ""), memory_bytes=gpu.memory_bytes)
            if spec
            else None
        )
        if kept:
            anonymous = kept[0].model_copy(update={"uuid": ""})
            found.append(RecordedCeilings(gpu=number, same_card=kept[1], ceilings=anonymous))
    return found, faults


def _with(spec: GpuSpec, measured: CardCeilings, *, same_card: bool) -> GpuSpec:
    """Apply ceilings to the model that they are of; a ``--gpu`` may have made it another."""
    fits = set(spec.name.split(OR)) & set((measured.model or "").split(OR))
    return ceilings.applied(spec, measured, same_card=same_card) if fits else spec


def _kept(cards: list[CardCeilings], gpus: list[Gpu], specs: Specs) -> Specs:
    memory = {gpu.gpu: gpu.memory_bytes for gpu in gpus}
    chosen = dict(specs)
    for number, spec in specs.items():
        found = ceilings_store.find(cards, spec, memory_bytes=memory.get(number)) if spec else None
        if spec and found:
            chosen[number] = _with(spec, found[0], same_card=False)
    return chosen


def _named(path: Path, gpus: list[Gpu], specs: Specs) -> Specs:
    """Take the ceilings of a file, or of a folder of such files, for each GPU of their models."""
    if path.is_dir():
        cards, faults = ceilings_store.load(path)
        if faults or not cards:
            raise InputError(faults[0] if faults else f"{path} holds no ceilings", "name another --ceilings")
    else:
        cards = [ceilings_store.read(path)]
    chosen = _kept(cards, gpus, specs)
    if specs and all(chosen[number] is specs[number] for number in specs):
        models = sorted({each.model or each.name for each in cards})
        known = sorted({spec.name for spec in specs.values() if spec}) or ["a GPU that is not known"]
        raise UsageError(
            f"--ceilings {path} is of {', '.join(models)}, the recording of {', '.join(known)}",
            "leave it out, or name the GPU with --gpu",
        )
    return chosen
