"""What a reload changes, and what has to wait."""

from hypothesis import given
from hypothesis import strategies as st

from rocscope.daemon.reloading import RESTART, change
from rocscope.daemon.settings import Settings


def made(**sections):
    return Settings.model_validate(sections)


def test_fields_are_named_and_those_of_a_restart_stay():
    old = made(state={"folder": "/a"})
    new = made(
        state={"folder": "/b", "max_bytes": 5},
        windows={"every_s": 60, "profiles": {"kernel-trace": {}, "long": {"window_s": 9}}},
        engines={"known": [{"url": "http://127.0.0.1:1"}]},
    )
    found = change(old, new)
    assert found.changed == ("engines.known", "state.max_bytes", "windows.every_s", "windows.profiles.long")
    assert found.needs_restart == ("state.folder",)
    assert found.sections == {"engines", "state", "windows"}
    assert str(found.settings.state.folder) == "/a" and found.settings.state.max_bytes == 5
    assert found.settings.windows == new.windows


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "node": st.fixed_dictionaries({"name": st.sampled_from(["a", "b"])}),
        "state": st.fixed_dictionaries({"folder": st.sampled_from(["/a", "/b"])}),
        "sampling": st.fixed_dictionaries({"hz": st.sampled_from([1, 2])}),
        "windows": st.fixed_dictionaries({"every_s": st.integers(1, 9)}),
    },
)


@given(FIELDS, FIELDS)
def test_only_what_needs_a_restart_is_held_back(one, other):
    old, new = made(**one), made(**other)
    found = change(old, new)
    assert (found.changed, found.needs_restart) == ((), ()) if old == new else True
    for field in RESTART:
        section, name = field.split(".")
        assert getattr(getattr(found.settings, section), name) == getattr(getattr(old, section), name)
    assert found.settings.windows == new.windows and found.settings.sampling == new.sampling
    again = change(found.settings, new)
    assert again.changed == () and again.needs_restart == found.needs_restart
