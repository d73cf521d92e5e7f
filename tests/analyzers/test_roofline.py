import numpy as np
import pytest

from rocscope.analyzers import runner
from synthetic_capture import capture, row, study


def one(kernel="k", mean=10_000, family="gemm", kind="kernel", **model):
    made = study(capture([row(kernel, 0, mean, kind=kind)]), {kernel: model}, families={kernel: family})
    runner.run(made)
    return made.kernels.iloc[0], made


def test_a_kernel_below_the_ridge_is_memory_bound():
    # 5 MB in 10 us is 0.5 TB/s, half of the datasheet; 10 MFLOP is 1 TFLOP/s, a tenth; 2 FLOP/B against 10
    found, _ = one(bytes=5e6, flops=1e7)
    assert found["bound"] == "memory"
    assert found["achieved_bandwidth_bytes_per_s"] == pytest.approx(0.5e12)
    assert found["bandwidth_frac"] == pytest.approx(0.5) and found["compute_frac"] == pytest.approx(0.1)
    assert found["intensity_flop_per_byte"] == pytest.approx(2) and found["ridge_flop_per_byte"] == 10
    # at the 0.8 TB/s that are reached the bytes take 6.25 us, so that 3.75 us are above the roofline
    assert found["roof_ns"] == pytest.approx(6250) and found["roof_basis"] == "achievable"
    assert found["headroom_ns"] == pytest.approx(3750)


def test_a_kernel_above_the_ridge_is_compute_bound_and_held_to_the_datasheet_where_nothing_was_measured():
    found, _ = one(bytes=1e6, flops=5e7)
    assert found["bound"] == "compute" and found["compute_frac"] == pytest.approx(0.5)
    assert found["roof_ns"] == pytest.approx(5000) and found["roof_basis"] == "datasheet"


def test_a_copy_is_memory_bound():
    found, _ = one("Memcpy DtoD (Device -> Device)", family="memcpy", kind="memcpy", bytes=8e6, flops=0.0)
    assert found["bound"] == "memory" and found["compute_frac"] == 0


@pytest.mark.parametrize("model", [{}, {"bytes": 1e6}, {"flops": 1e7}])
def test_half_the_figures_give_no_bound(model):
    found, _ = one(**model)
    assert found["bound"] == "unknown" and np.isnan(found["headroom_ns"]) and found["roof_basis"] is None


@pytest.mark.parametrize(
    "name",
    [
        "Memcpy HtoD (Pinned -> Device)",
        "Memcpy DtoH (Device -> Pageable)",
        "CopyHostToDevice",
        "MEMORY_COPY_DEVICE_TO_HOST",
        "Memcpy PtoP (Device -> Device)",
        "hipMemcpyHtoD",
        "Memcpy Unknown (Pageable -> Device)",
        "peer_to_peer",
    ],
)
def test_copies_over_a_link_are_not_held_against_device_memory(name):
    found, _ = one(name, family="memcpy", kind="memcpy", bytes=9e6, flops=0.0)
    assert found["over_the_link"] and found["bound"] == "unknown" and np.isnan(found["bandwidth_frac"])


@pytest.mark.parametrize(
    ("model", "text"),
    [({"bytes": 1.2e7, "flops": 0.0}, "120 % of the memory"), ({"bytes": 1e6, "flops": 1.2e8}, "arithmetic")],
)
def test_a_value_above_its_ceiling_is_flagged_and_not_shown(model, text):
    found, made = one(**model)
    assert text in found["flagged"]
    assert (
        found["bound"] == "unknown" and np.isnan(found["bandwidth_frac"]) and np.isnan(found["compute_frac"])
    )
    assert [each.code for each in made.warnings] == ["above-ceiling"]


@pytest.mark.parametrize("name", ["k", "Memcpy HtoD (Pageable -> Device)"])
def test_a_dispatch_of_no_length_has_no_rate_and_no_limiter_of_its_own(name):
    rows = [row(name, 0, 0, kind="memcpy" if " " in name else "kernel"), row("rest", 10, 4_000)]
    checked = study(capture(rows), {name: {"bytes": 1e6, "flops": 0.0}})
    runner.run(checked)
    found = checked.kernels[checked.kernels["raw_name"] == name].iloc[0]
    assert np.isnan(found["achieved_bandwidth_bytes_per_s"]) and np.isnan(found["headroom_ns"])
    assert found["flagged"] is None and found["limiter"] in ("unknown", "communication")
    assert "its times read 0" in found["evidence"][0]
    assert "above-ceiling" not in {each.code for each in checked.warnings}
    assert checked.kernels["floor_ns"].min() > 0


def test_a_value_at_its_ceiling_stays_within_one():
    found, made = one(bytes=1.04e7, flops=0.0)
    assert found["bandwidth_frac"] == 1 and found["bound"] == "memory" and not made.warnings
    assert found["headroom_ns"] == 0


def test_an_unknown_gpu_or_pipe_gives_no_roof():
    made = study(capture([row("k", 0, 10)]), {"k": {"bytes": 1.0, "flops": 1.0}}, spec=None)
    runner.run(made)
    assert made.kernels.loc[0, "bound"] == "unknown" and np.isnan(made.kernels.loc[0, "peak_bandwidth"])
    made = study(capture([row("k", 0, 10_000)]), {"k": {"bytes": 1e6, "flops": 1e6}})
    made.kernels["flops_unit"] = "matrix_fp8"
    runner.run(made)
    assert made.kernels.loc[0, "bound"] == "unknown" and made.kernels.loc[0, "bandwidth_frac"] > 0


def test_hidden_time_has_no_headroom():
    made = study(capture([row("k", 0, 10_000), row("cover", 0, 10_000)]), {"k": {"bytes": 1e6, "flops": 0.0}})
    runner.run(made)
    assert made.kernels.set_index("kernel").loc["k", "headroom_ns"] == 0


class _Made:
    help = ""

    def __init__(self, name, needs, adds, really=True):
        self.name, self.needs, self.adds, self.really = name, needs, adds, really

    def run(self, made):
        if self.really:
            for column in self.adds:
                made.kernels[column] = 0


def test_analyzers_run_after_those_they_need():
    last, first = _Made("a", ("x",), ("y",)), _Made("b", (), ("x",))
    assert [each.name for each in runner.ordered([last, first], [])] == ["b", "a"]
    with pytest.raises(LookupError, match="'x'"):
        runner.ordered([last], [])


def test_an_analyzer_must_add_what_it_promises():
    made = study(capture([row("k", 0, 10)]))
    with pytest.raises(LookupError, match="did not add"):
        runner.run(made, [_Made("a", (), ("new",), really=False)])


def test_every_analyzer_can_be_ordered_and_says_what_it_does():
    names = [each.name for each in runner.ordered(runner.analyzers(), study(capture([])).kernels.columns)]
    assert names.index("roofline") < names.index("limiter") < names.index("families")
    assert all(each.help for each in runner.analyzers())
