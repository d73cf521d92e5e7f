"""What to try and what would confirm it, from ``data/advice.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rocscope.errors import InputError


class Advice(BaseModel):
    """One entry: for whom it is, and its two sentences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    if not any(each.family is None and each.limiter is None for each in found):
        raise InputError(
            "data/advice.toml: no entry without family and limiter", "add one as the last resort"
        )
    return found


def advise(family: str, limiter: str, kernel: str) -> tuple[str, str]:
    """Return advice and confirmation for a target: of family and limiter, family, limiter, or any."""
    for wanted in ((family, limiter), (family, None), (None, limiter), (None, None)):
        for each in entries():
            if (each.family, each.limiter) == wanted:
                return each.advice.replace("{kernel}", kernel), each.confirm_by.replace("{kernel}", kernel)
    raise InputError("data/advice.toml: nothing fits", "add an entry without family and limiter")
