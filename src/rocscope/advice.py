"""What to try and what would confirm it, from ``data/advice.toml``."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rocscope.errors import InputError


class Advice(BaseModel):
    """One entry: for whom it is, and its two sentences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernel: str | None = None  # a regular expression, searched for in the short name
    bound: str | None = None
    family: str | None = None
    limiter: str | None = None
    advice: str = Field(min_length=20)
    confirm_by: str = Field(min_length=20)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: tuple[Advice, ...]


@cache
def entries() -> tuple[Advice, ...]:
    """Return all entries. Raises :class:`InputError` that names the field at fault."""
    return read(resources.files("rocscope.data").joinpath("advice.toml").read_text("utf-8"))


def read(text: str) -> tuple[Advice, ...]:
    """Check the text of an advice file; it must end all searches with an entry for everything."""
    try:
        found = _File.model_validate(tomllib.loads(text)).entry
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(f"data/advice.toml: {error}", "correct the field it names") from error
    try:
        for each in found:
            re.compile(each.kernel or "")
    except re.error as error:
        raise InputError(f"data/advice.toml: {error.pattern!r}: {error}", "correct the expression") from error
    if not any(_rank(each) == 0 for each in found):
        raise InputError("data/advice.toml: no entry that fits everything", "add one as the last resort")
    return found


def advise(family: str, limiter: str, kernel: str, bound: str | None = None) -> tuple[str, str]:
    """Return advice and confirmation for a target: of the entry that fits and says most of it.

    A kernel's name says most, then its bound, its family, its limiter; of two alike the first wins.
    """
    fitting = [
        each
        for each in entries()
        if each.family in (None, family)
        and each.limiter in (None, limiter)
        and each.bound in (None, bound)
        and (each.kernel is None or re.search(each.kernel, kernel))
    ]
    best = max(fitting, key=_rank)
    return best.advice.replace("{kernel}", kernel), best.confirm_by.replace("{kernel}", kernel)


def _rank(entry: Advice) -> int:
    given = (entry.kernel, entry.bound, entry.family, entry.limiter)
    return sum(8 >> place for place, each in enumerate(given) if each is not None)
