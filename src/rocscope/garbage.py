"""Python's collector of cycles, kept away from where very many objects without any are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def resting() -> Iterator[None]:
    """Let the collector rest in the block, and leave it as it was.

    It looks again and again through all objects that were made so far: of rows of a table none can be freed,
    and with some ten thousand of them the looking took 40 % of an analysis. Threads beside are not harmed,
    as what they leave is collected later.
    """
    at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if at_work:
            gc.enable()
