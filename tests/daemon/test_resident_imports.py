"""What stays in memory imports none of the heavy libraries."""

import pkgutil
import subprocess
import sys

import pytest

import rocscope.daemon

HEAVY = ("pyarrow", "pandas", "numpy", "plotly")
ENDING = {
    "aggregates",
    "analysis_child",
    "daily_child",
    "unpacked",
    "window_child",
    "window_result",
}  # run in children that end


@pytest.mark.parametrize("group", ["store", "all"])
def test_the_resident_modules_are_light(group):
    names = [
        f"rocscope.daemon.{each.name}"
        for each in pkgutil.iter_modules(rocscope.daemon.__path__)
        if each.name not in ENDING
        and (group == "all" or each.name.startswith(("store", "state", "wall", "retention")))
    ]
    # the store is also opened by children, so it takes no pydantic with it either
    heavy = (*HEAVY, "pydantic") if group == "store" else HEAVY
    code = f"import sys, {', '.join(names)}\nprint([each for each in {heavy} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(names) > 5 and done.stdout.strip() == "[]", done.stdout
