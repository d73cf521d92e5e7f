"""Drops that change while they are taken: nothing that was not looked at is removed, nothing grows unseen."""

import asyncio

import pytest
from making import until
from test_spool import at_work, rows, settled, world

from rocscope.daemon import drops, intake
from rocscope.errors import InputError


def test_what_is_dropped_under_a_name_that_is_just_taken_is_not_lost(tmp_path, monkeypatch):
    real, again = intake.identity, []

    async def scenario():
        async with world(tmp_path) as context:
            path = context.folder.spool / "trace.json"

            def identity(content):
                if not again:
                    again.append(path.write_text("the second"))
                return real(content)

            monkeypatch.setattr(intake, "identity", identity)
            path.write_text("the first")
            async with at_work(context):
                await until(lambda: settled(context, 2), "both are settled")
            assert {each.size for each in rows(context)} == {9, 10}

    asyncio.run(scenario())


def test_a_folder_that_grows_in_number_while_it_is_copied_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    for number in range(9):
        (folder / str(number)).write_text("x")
    theirs = drops.Drop(**{**vars(drops.look(folder, 1 << 20)), "own": False})
    monkeypatch.setattr(intake, "MOST_FILES", 5)
    with pytest.raises(InputError, match="too many"):
        intake.take(theirs, tmp_path / "taken", 1 << 20)
    assert not (tmp_path / "taken" / "run").exists()
