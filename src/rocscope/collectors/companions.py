"""Files beside a recording that are of the same run, told by their names and then by their content.

``run7.kineto.json.gz`` has ``run7.load.json``, ``run7.metrics_before.txt``, ``run7_telemetry.csv`` and
``run7.log``. A model's config may be named after the run (``run7_config.json``), or, where no file is, after
its first word (``fp16_graph.json`` and ``fp16_config.json``).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from rocscope.collectors import stems

_MOST: Final = 20_000  # entries of a folder that are looked at
_PARTS: Final = (
    r"(?:[._-](?:load|bench|bench_serve|serve|result|results|metrics|server|before|during|after|telemetry|power"
    r"|log|config|json|jsonl|csv|txt|gz|c\d{1,5}|\d{1,4}))+"
)
_AFTER: Final = re.compile(_PARTS)
CONFIG: Final = re.compile(r"(?P<of>.+)[._-]config\.json")
PER_RUN: Final = ("load-result", "server-metrics")  # of a server, not of a rank: two are of two runs


def stem(name: str) -> str:
    """Return what the files of a run share of their names: ``run7`` of ``run7.kineto.json.gz``."""
    shared = stems.split(name)[0]
    return shared.split(".")[0] or shared


def beside(recording: Path) -> list[Path]:
    """Return the files in the folder of ``recording`` that by their names are of its run, sorted.

    Links and hidden files are left out, and so is a config that could be another run's as well.
    """
    own = stem(recording.name)
    names = [name for name in _regular(recording.parent) if name != recording.name]
    found = [name for name in names if _of(name, own)]
    if not any(CONFIG.fullmatch(name) for name in found):
        found += _by_first_word(own, names)
    return [recording.with_name(name) for name in sorted(found)]


def runs(named: Iterable[tuple[str, str, bool]]) -> list[str]:
    """Return the recordings of different runs in a folder, ``[]`` where it may be all one.

    ``named`` gives of each file its path, its reader and whether it holds a recording. Each of several has a
    load's result or a server's metrics of its own, and those are of a whole run.
    """
    split = [(*path.rpartition("/")[::2], path, reader, recording) for path, reader, recording in named]
    first: dict[tuple[str, str], str] = {}
    for folder, name, path, _, recording in split:
        own = stem(name)
        theirs = (other for where, other, _, reader, _ in split if where == folder and reader in PER_RUN)
        if recording and any(_of(other, own) for other in theirs):
            first.setdefault((folder, own), path)
    return list(first.values()) if len(first) > 1 else []


def _of(name: str, own: str) -> bool:
    return name.startswith(own) and bool(_AFTER.fullmatch(name, len(own)))


def _by_first_word(own: str, names: Sequence[str]) -> list[str]:
    word = re.split(r"[_-]", own)[0]
    found = [name for name in names if (told := CONFIG.fullmatch(name)) and told["of"] == word]
    return found if len(found) == 1 else []


def _regular(folder: Path) -> list[str]:
    names = []
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= _MOST:
                    break
                if not entry.name.startswith(".") and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                    names.append(entry.name)
    except OSError:
        return []  # the recording itself could be read; without its neighbours it is what it was
    return names
