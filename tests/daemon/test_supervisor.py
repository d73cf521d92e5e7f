"""Parts that fail, hang, end by themselves or will not end: the others go on, and all of it ends."""

import asyncio

import pytest
from making import make_context, told, until

from rocscope.daemon import supervisor as module
from rocscope.daemon.part import Health, Part
from rocscope.daemon.settings import Settings
from rocscope.daemon.supervisor import Supervisor
from rocscope.errors import PortTaken


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(module, "LAST_WAIT_S", 0.04)
    monkeypatch.setattr(module, "PART_STOP_S", 0.2)
    monkeypatch.setattr(module, "STOP_S", 0.3)


class Steady(Part):
    name = "steady"
    sections = ("http",)

    def __init__(self, context):
        super().__init__(context)
        self.stopping = asyncio.Event()

    async def run(self):
        await self.stopping.wait()

    async def stop(self):
        self.stopping.set()


class Failing(Steady):
    name = "failing"
    runs = 0

    async def run(self):
        type(self).runs += 1
        raise ZeroDivisionError("of mine")


def supervised(*classes, settings=None):
    """Run a test with a supervisor of these parts; all must have ended afterwards."""

    def decorate(test):
        async def main():
            made = make_context(settings)
            supervisor = Supervisor(made, classes)
            supervisor.start()
            try:
                await test(supervisor, made)
            finally:
                await supervisor.stop()
            assert supervisor.parts == {}
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("part ")]

        return asyncio.run(main())

    return decorate


def test_a_part_that_fails_is_started_anew_and_the_others_go_on():
    Failing.runs = 0

    @supervised(Steady, Failing)
    async def _(supervisor, made):
        await until(lambda: Failing.runs > 3, "a third start")
        assert made.trouble["failing"].count >= 3 and made.trouble["steady"].count == 0
        assert made.part("steady").health() == Health() and supervisor.ready
        assert supervisor.health()["failing"].state == "failing"
        assert (
            "failing failed and is started anew in 0.01 s: ZeroDivisionError: of mine at test_super"
            in told(made)
        )


class Ending(Steady):
    name = "ending"

    async def run(self):
        return


class Cancelled(Steady):
    name = "cancelled"

    async def run(self):
        raise asyncio.CancelledError  # of something that it waited for


class Unbuilt(Steady):
    name = "unbuilt"

    def __init__(self, context):
        raise LookupError("nothing to build with")


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Ending, "it ended by itself"), (Cancelled, "CancelledError"), (Unbuilt, "nothing to build with")],
)
def test_whatever_way_a_part_ends_it_is_started_anew(kind, why):
    @supervised(kind)
    async def _(supervisor, made):
        await until(lambda: made.trouble[kind.name].count > 2, "its third end")
        assert why in made.trouble[kind.name].last


class Stubborn(Steady):
    name = "stubborn"

    async def run(self):
        while True:
            try:
                await asyncio.sleep(3600)
            finally:
                self.context.events.note("test", "stubborn was cancelled")

    async def stop(self):
        await asyncio.sleep(3600)


class Faulty(Steady):
    name = "faulty"

    async def stop(self):
        self.stopping.set()
        raise OSError("cannot stop")


def test_what_does_not_end_is_cancelled_and_named():
    async def main():
        made = make_context()
        supervisor = Supervisor(made, [Stubborn, Steady, Faulty])
        supervisor.start()
        await until(lambda: len(supervisor.parts) == 3, "all to run")
        assert await supervisor.stop() == ["stubborn"]
        assert "did not end in 0.3 s: stubborn" in told(made) and "stubborn was cancelled" in told(made)
        assert "faulty failed to stop: OSError: cannot stop" in told(made)
        assert await supervisor.stop() == []

    asyncio.run(main())


class Taken(Steady):
    name = "taken"
    fatal = (PortTaken,)

    async def run(self):
        raise PortTaken("127.0.0.1:9814 is taken", "choose another")


def test_an_error_without_which_there_is_no_daemon_is_handed_up():
    @supervised(Taken, Steady)
    async def _(supervisor, made):
        error = await asyncio.wait_for(supervisor.fatal, 10)
        assert isinstance(error, PortTaken) and made.trouble["taken"].count == 1


class Optional(Steady):
    name = "optional"
    sections = ()

    @classmethod
    def wanted(cls, settings):
        return settings.spool.enabled


def test_after_a_reload_only_what_it_concerns_is_started_anew():
    @supervised(Steady, Optional, settings=Settings.model_validate({"spool": {"enabled": False}}))
    async def _(supervisor, made):
        await until(lambda: made.part("steady"), "the start")
        assert made.part("optional") is None and set(supervisor.health()) == {"steady"}
        first = made.part("steady")
        made.settings = Settings()
        assert await supervisor.renew({"spool"}) == []
        await until(lambda: made.part("optional"), "what is wanted now")
        assert made.part("steady") is first
        optional = made.part("optional")
        assert await supervisor.renew({"http"}) == ["steady"]
        await until(lambda: made.part("steady"), "the new one")
        assert made.part("steady") is not first and made.part("optional") is optional
        made.settings = Settings.model_validate({"spool": {"enabled": False}})
        assert await supervisor.renew({"spool"}) == ["optional"]
        assert made.part("optional") is None


class Sick(Steady):
    name = "sick"

    def health(self):
        raise KeyError("health")

    def ready(self):
        return False


def test_a_health_that_cannot_be_told_hides_no_other():
    @supervised(Sick, Steady)
    async def _(supervisor, made):
        await until(lambda: len(supervisor.parts) == 2, "both to run")
        assert supervisor.health()["sick"].state == "failing" and supervisor.health()["steady"].state == "ok"
        assert not supervisor.ready


def test_a_part_that_was_told_before_it_began_does_not_begin():
    async def main():
        made = make_context()
        supervisor = Supervisor(made, [Failing])
        Failing.runs = 0
        supervisor.start()
        assert await supervisor.stop() == [] and Failing.runs == 0

    asyncio.run(main())
