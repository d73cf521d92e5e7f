"""What windows saw of kernels, as counters: within the budget of series, never falling, nothing stale."""

from dataclasses import fields

from rocscope.daemon.kernel_totals import MOST_FAMILIES, OTHER, KernelTotals
from rocscope.daemon.store_windows import FamilyRow


def rows(*families, gpu="0", frac=0.5):
    rest = dict.fromkeys(each.name for each in fields(FamilyRow))
    known = {"gpu": gpu, "dispatches": 2, "busy_s": 1.0, "bandwidth_frac": frac}
    return [FamilyRow(**{**rest, **known, "family": each}) for each in families]


def test_families_beyond_the_budget_count_as_other_and_a_label_stays():
    totals = KernelTotals(0.0)
    many = [f"f{number}" for number in range(MOST_FAMILIES + 5)]
    totals._add(rows(*many))
    assert {family for _, family in totals.busy_s} == {OTHER, *many[: MOST_FAMILIES - 1]}
    assert totals.busy_s[("0", OTHER)] == 6.0 and sum(totals.dispatches.values()) == 2 * len(many)
    totals._add(rows(*reversed(many)))
    assert totals.busy_s[("0", "f0")] == 2.0 and totals.busy_s[("0", OTHER)] == 12.0


def test_a_share_of_the_peak_is_of_the_last_window_alone():
    totals = KernelTotals(0.0)
    totals._add(rows("gemm", "rope") + rows("gemm", gpu="1"))
    totals._add(rows("gemm", frac=0.25))
    assert {key[:2]: value for key, value in totals.bandwidth.items()} == {
        ("0", "gemm"): 0.25,
        ("1", "gemm"): 0.5,
    }
