"""The part that keeps the folder: rounds, what is said, room on request, health."""

import asyncio
from types import SimpleNamespace

import pytest

from rocscope.daemon import housekeeping
from rocscope.daemon.housekeeping import Housekeeping
from rocscope.daemon.settings import Settings
from rocscope.daemon.store import Store


@pytest.fixture
def context(store):
    said = []
    settings = Settings.model_validate(
        {
            "state": {
                "folder": store.folder.path,
                "max_bytes": 4 << 20,
                "min_free_bytes": 1,
                "keep_captures": 2,
            }
        }
    )
    events = SimpleNamespace(note=lambda kind, text, level: said.append((kind, text)))
    return SimpleNamespace(settings=settings, store=store, events=events, said=said)


def rounds(context, during):
    async def run():
        part = Housekeeping(context)
        assert part.health().state == "ok"
        running = asyncio.create_task(part.run())
        while part._last is None:
            await asyncio.sleep(0.01)
        await during(part)
        await part.stop()
        await asyncio.wait_for(running, 10)
        return part

    return asyncio.run(run())


def test_rounds_are_made_and_room_on_request(context, store, monkeypatch):
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.01)
    for number in range(5):
        (store.folder.captures / f"c{number}").write_bytes(b"x")

    async def during(part):
        (store.folder.captures / "c9").write_bytes(b"x")
        while len(list(store.folder.captures.iterdir())) > 2:
            await asyncio.sleep(0.01)
        assert await part.make_room(1000)
        assert not await part.make_room(1 << 30)

    part = rounds(context, during)
    assert context.said == []
    assert part.health().state == "ok" and store.health.limit_bytes == 4 << 20


def test_a_limit_that_cannot_be_kept_is_said(context, store):
    (store.folder.aside / "store-1.sqlite").write_bytes(bytes(5 << 20))

    async def during(part):
        health = part.health()
        assert health.state == "degraded" and "above its limit" in health.reason

    rounds(context, during)
    assert context.said[0][0] == "retention" and "lie in aside" in context.said[0][1]


def test_what_cannot_be_deleted_is_told(context, store):
    async def during(part):
        part._last.stuck = 1
        assert "cannot be deleted" in part.health().reason

    rounds(context, during)


def test_the_store_is_the_real_one(store):
    assert isinstance(store, Store) and housekeeping.PART.name == "housekeeping"
