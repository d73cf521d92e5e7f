"""Which family a kernel belongs to, by the rules of ``data/families.toml``.

Patterns run in RE2 (through Arrow), whose time is linear in the name whatever the pattern: names come from
recordings and are untrusted. What no rule knows is ``other``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rocscope.errors import InputError
from rocscope.kernel_names import LONGEST, short_name

if TYPE_CHECKING:
    import pandas as pd

OTHER: Final = "other"
_STRANGERS: Final = ("", "q", "7", "_", "zz kernel<T>(int)")  # what no pattern may match
COLUMNS: Final = ("raw_name", "kernel", "family", "subfamily", "rule")


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Data):
    """One entry of ``families.toml``: names that belong to one family."""

    id: str = Field(pattern=r"^[a-z0-9-]{2,40}$")
    family: str
    subfamily: str = Field(min_length=1)
    kernel: tuple[str, ...] = ()  # for the short name
    text: tuple[str, ...] = ()  # for the whole name as recorded
    examples: tuple[str, ...] = Field(min_length=1)
    not_examples: tuple[str, ...] = Field(min_length=1)
    source: str = Field(min_length=4)

    @field_validator("kernel", "text")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not 3 <= len(pattern) <= 200:
                raise ValueError(f"the pattern {pattern[:60]!r} must have 3 to 200 characters")
            try:
                strangers = pc.match_substring_regex(pa.array(_STRANGERS), pattern)
            except pa.ArrowInvalid as error:
                raise ValueError(f"the pattern {pattern!r} is not RE2: {error}") from error
            if pc.any(strangers).as_py():
                raise ValueError(f"the pattern {pattern!r} matches anything")
        return patterns

    @model_validator(mode="after")
    def _has_a_pattern(self) -> Self:
        if not self.kernel and not self.text:
            raise ValueError("needs a pattern in kernel or text")
        return self

    def matches(self, short: pa.Array, raw: pa.Array) -> pa.Array:
        """Return which names are this rule's, given short and whole ones."""
        found = [_any(names, wanted) for names, wanted in ((short, self.kernel), (raw, self.text)) if wanted]
        return found[0] if len(found) == 1 else pc.and_(*found)


def _storable(name: str) -> str:
    """Replace what is no text in UTF-8: halves of surrogate pairs, from undecodable bytes of a file."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _any(names: pa.Array, patterns: tuple[str, ...]) -> pa.Array:
    return pc.match_substring_regex(names, "|".join(f"(?:{pattern})" for pattern in patterns))


class Taxonomy(_Data):
    """All rules, in the order in which they are tried, and what each family is."""

    families: dict[str, str]
    rule: tuple[Rule, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[str] = set()
        for rule in self.rule:
            if rule.family not in self.families:
                raise ValueError(f"rule {rule.id}: family {rule.family!r} is not in [families]")
            if rule.id in seen:
                raise ValueError(f"rule {rule.id}: this id is given twice")
            seen.add(rule.id)
        if OTHER not in self.families:
            raise ValueError(f"[families] lacks {OTHER!r}")
        return self

    @classmethod
    def load(cls, path: Path | None = None) -> Taxonomy:
        """Read the rules from ``path``, or the package's own.

        Raises :class:`InputError` that names the entry and the field.
        """
        where = str(path) if path else "data/families.toml"
        try:
            source = path or resources.files("rocscope.data").joinpath("families.toml")
            data = tomllib.loads(source.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{where}: {error}") from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{where}: {_place(first['loc'], data)}: {first['msg']}",
                "see the comment at the top of data/families.toml",
            ) from error

    def classify(self, names: Sequence[str]) -> pd.DataFrame:
        """Return a frame with a row for each of ``names``, in order; see :func:`classify`."""
        import pandas as pd

        codes, distinct = pd.factorize(pd.Series(list(names), dtype=object), use_na_sentinel=False)
        raw = ["" if pd.isna(name) else str(name) for name in distinct]
        short = [short_name(name) for name in raw]
        families, subfamilies, rules = self._decide(short, raw)
        return pd.DataFrame(
            {
                column: pd.Series(values, dtype=object).take(codes).reset_index(drop=True)
                for column, values in zip(COLUMNS, (raw, short, families, subfamilies, rules), strict=True)
            }
        )

    def _decide(self, short: list[str], raw: list[str]) -> tuple[list[str], list[str], list[str]]:
        families, subfamilies, rules = [OTHER] * len(raw), [""] * len(raw), [""] * len(raw)
        open_rows = list(range(len(raw)))
        shorts = pa.array([_storable(name) for name in short], pa.string())
        texts = pa.array([_storable(name[:LONGEST]) for name in raw], pa.string())
        for rule in self.rule:
            if not open_rows:
                break
            hit = rule.matches(shorts, texts)
            for row in (row for row, found in zip(open_rows, hit.to_pylist(), strict=True) if found):
                families[row], subfamilies[row], rules[row] = rule.family, rule.subfamily, rule.id
            rest = pc.invert(hit)
            open_rows = [row for row, left in zip(open_rows, rest.to_pylist(), strict=True) if left]
            shorts, texts = shorts.filter(rest), texts.filter(rest)
        return families, subfamilies, rules


def _place(location: tuple[int | str, ...], data: dict[str, object]) -> str:
    """Say where in the file, an entry by its id where it has one."""
    parts = [str(part) for part in location]
    rules = data.get("rule")
    if (
        len(location) > 1
        and location[0] == "rule"
        and isinstance(location[1], int)
        and isinstance(rules, list)
    ):
        entry = rules[location[1]]
        named = entry.get("id") if isinstance(entry, dict) else None
        parts[:2] = [f"rule {named or location[1] + 1}"]
    return ": ".join(parts) or "the file"


@cache
def taxonomy() -> Taxonomy:
    """Return the package's own rules, read once."""
    return Taxonomy.load()


def classify(names: Sequence[str]) -> pd.DataFrame:
    """Return a frame with a row for each of ``names``, in order, decided once a distinct name.

    Columns: ``raw_name`` as given, ``kernel`` its short name, ``family``, ``subfamily`` and ``rule`` (id),
    the last two ``""`` where no rule knows the kernel and the family is ``other``.
    """
    return taxonomy().classify(names)
