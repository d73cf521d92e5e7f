"""Settings read again while the daemon runs: what changed, and what has to wait for a restart."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from rocscope.daemon.settings import Settings

RESTART: Final = ("node.name", "state.folder")
"""Fields that only a restart changes: the lock, the store and all that is under way hang on them."""


class Change(NamedTuple):
    """The settings that hold after a reload."""

    settings: Settings
    changed: tuple[str, ...]  # fields, as "windows.every_s"
    needs_restart: tuple[str, ...]  # fields that keep their old value until then

    @property
    def sections(self) -> set[str]:
        """First parts of the fields that changed."""
        return {field.partition(".")[0] for field in self.changed}


def change(old: Settings, new: Settings) -> Change:
    """Compare settings; fields that need a restart keep their old values."""
    differ = _differ(old.model_dump(), new.model_dump(), "")
    kept = new
    waiting = tuple(field for field in differ if field in RESTART)
    for field in waiting:
        section, _, name = field.partition(".")
        before = getattr(getattr(old, section), name)
        inner = getattr(kept, section).model_copy(update={name: before})
        kept = kept.model_copy(update={section: inner})
    return Change(kept, tuple(field for field in differ if field not in RESTART), waiting)


def _differ(old: Any, new: Any, at: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            each
            for key in sorted({*old, *new}, key=str)
            for each in _differ(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
        ]
    return [] if old == new else [at]
