"""The archive to send back: captures, truth and verdicts, with nothing in it of who ran them.

The promises are those of ``capture share``: captures go through :mod:`rocscope.redaction`, and of all other
text only what is of our own wording, or on a list of what is harmless, is kept.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from rocscope import __version__, archive
from rocscope.doctor.check import Finding
from rocscope.errors import InputError
from rocscope.redaction import redact
from rocscope.redaction_words import ARCH, CODE, VERSION, Words
from rocscope.validation.run import Outcome
from rocscope.validation.trials import Trials
from rocscope.validation.truth import Truth
from rocscope.validation.verdict import Verdict, count

ARCHIVE: Final = "rocscope-validation.tar.gz"
FOLDER: Final = "rocscope-validation"
_REMOVED: Final = "removed before sending"
_NUMBER: Final = re.compile(r"\d{1,7}(\.\d{1,6}){0,3}", re.ASCII)
_EXCEPTION: Final = 60  # characters of the name of an exception
_README: Final = """\
What rocscope read of known kernels on one machine, and what must be true of them.
{state}
  verdicts.txt   a line a check: pass, fail, not applicable, not run, with the figures expected and seen
  verdicts.json  the same for a machine, with versions and what was tried
  doctor.json    the checks of `rocscope doctor`, without their texts
  truth/         what each run of the known kernels launched: names, counts, grids, bytes, FLOPs, event times
  captures/      what each profiler read, as `rocscope capture share` would send it

Prompts, paths, environment, host and user names, arguments, raw files and logs are not in it: only what a
list knows to be harmless was kept. See for yourself: `rocscope analyze captures/NAME`, and read the rest.

To send it back: open an issue at the project that you had rocscope from, titled "validation" and the name of
the GPU, and attach this archive. Say there, in your own words, what the checks cannot know: is the card's
power limited or are its clocks fixed, was anything else running on it?
"""


def write(
    target: Path,
    trials: Trials,
    outcome: Outcome,
    findings: Sequence[Finding] = (),
    *,
    like: Path | None = None,
) -> dict[str, int]:
    """Write the archive; return what was removed from the captures, by kind."""
    words = Words()
    removed: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="rocscope-validation-") as scratch:
        folder = Path(scratch) / FOLDER
        folder.mkdir()
        verdicts = [without_detail(each) for each in outcome.verdicts]
        _text(folder / "README.txt", _README.format(state=_state(outcome)))
        _text(folder / "verdicts.txt", "".join(f"{each.line()}\n" for each in verdicts))
        _json(folder / "verdicts.json", report(trials, outcome, verdicts, words))
        _json(folder / "doctor.json", [_finding(each) for each in findings])
        for name, truths in outcome.truths.items():
            (folder / "truth").mkdir(exist_ok=True)
            _json(folder / "truth" / f"{name}.json", [clean_truth(each) for each in truths])
        for name, capture in outcome.captures.items():
            shared, done = redact(capture)
            shared.save(folder / "captures" / name)
            for what, many in done.removed.items():
                removed[what] = removed.get(what, 0) + many
        try:
            archive.pack_folder(folder, target, like=like)
        except OSError as error:
            raise InputError(
                f"{target}: cannot be written ({error.strerror or error})", "name another place"
            ) from error
    return removed


def report(
    trials: Trials, outcome: Outcome, verdicts: Iterable[Verdict], words: Words | None = None
) -> dict[str, Any]:
    """Return all verdicts with what was tried, as JSON; with ``words`` only what may be sent."""
    found = list(verdicts)
    truth = outcome.truth
    device = None
    if truth is not None:
        device = clean_truth(truth)["device"] if words else truth.device.model_dump()
    return {
        "schema_version": "1",
        "rocscope": __version__,
        "device": device,
        "software": {} if truth is None else clean_truth(truth)["software"],
        "profilers": {
            name: version if not words else words.kept(version, VERSION, "version")
            for name, version in trials.versions.items()
        },
        "partial": outcome.interrupted,
        "took_s": outcome.took_s,
        "counts": count(found),
        "verdicts": [each.model_dump() for each in found],
    }


def without_detail(verdict: Verdict) -> Verdict:
    """Leave out what other programs said."""
    return verdict.model_copy(update={"detail": _REMOVED if verdict.detail else ""})


def clean_truth(truth: Truth) -> dict[str, Any]:
    """Return what a run printed, without what may tell whose machine it is."""
    told = truth.model_dump()
    spec = truth.device.spec()
    told["device"]["name"] = spec.name if spec else ""
    told["device"]["arch"] = truth.device.arch if ARCH.fullmatch(truth.device.arch) else ""
    told["software"] = {
        name: _version(version) if version else None
        for name, version in truth.software.items()
        if name in ("torch", "runtime", "triton")
    }
    told["left_out"] = {case: _reason(reason) for case, reason in truth.left_out.items()}
    return told


def _version(text: str) -> str:
    """Keep a version; of one with a word of its builder's own in it, the number that it begins with."""
    number = _NUMBER.match(text)
    return text if VERSION.fullmatch(text) else number[0] if number else _REMOVED


def _reason(text: str) -> str:
    """Keep the name of an exception, and a reason of our own."""
    name, colon, _ = text.partition(":")
    if colon and name.isidentifier() and name.isascii() and len(name) <= _EXCEPTION:
        return name
    return text if text == "this Python has no Triton" else _REMOVED


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check if CODE.fullmatch(finding.check) else _REMOVED,
        "status": finding.status,
    }


def _state(outcome: Outcome) -> str:
    return (
        "It was ended before all was done: what was recorded until then is here.\n"
        if outcome.interrupted
        else ""
    )


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _json(path: Path, content: object) -> None:
    _text(path, json.dumps(content, indent=1) + "\n")
