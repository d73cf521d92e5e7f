"""What was worked out of a capture is worked out once, as long as what it was made of stays the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from rocscope.capture import Capture

_Result = TypeVar("_Result")


class _Decorator(Protocol):
    def __call__(self, make: Callable[[Capture], _Result], /) -> Callable[[Capture], _Result]: ...


def by_capture(depends: Callable[[Capture], tuple[Any, ...]], *, copied: bool = False) -> _Decorator:
    """Decorate a function of a capture so that its result is kept while the capture lives.

    ``depends`` names what the result is made of: tables, of which another one makes it anew, and plain values
    that are compared. With ``copied`` each caller gets a copy by the result's own ``copy()``, to change.
    """

    def decorate(make: Callable[[Capture], _Result], /) -> Callable[[Capture], _Result]:
        # by id, since captures compare by what they hold; the reference drops the entry with its capture
        kept: dict[int, tuple[weakref.ref[Capture], tuple[Any, ...], Any]] = {}

        @wraps(make)
        def given(capture: Capture) -> _Result:
            key, now = id(capture), depends(capture)
            entry = kept.get(key)
            if entry is None or entry[0]() is not capture or not _same(entry[1], now):
                gone = weakref.ref(capture, lambda _: kept.pop(key, None))
                entry = kept[key] = (gone, _lightly(now), make(capture))
            result: Any = entry[2]
            return result.copy() if copied else result  # type: ignore[no-any-return]  # its own copy()

        return given

    return decorate


def _lightly(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Hold no table: one that the capture has no more is not kept for it."""
    return tuple(weakref.ref(each) if isinstance(each, pa.Table) else each for each in parts)


def _same(kept: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    pairs = zip(kept, now, strict=True)
    return all(old() is new if isinstance(new, pa.Table) else old == new for old, new in pairs)
