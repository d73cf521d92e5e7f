"""What windows saw of kernels, as counters: within the budget of series, never falling, nothing stale."""

from dataclasses import fields

from rocscope.daemon import kernel_totals, store_windows
from rocscope.daemon.kernel_totals import MOST_FAMILIES, OTHER, KernelTotals
from rocscope.daemon.store_windows import FamilyRow

NOON = 1_800_000_000.0


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


def add(connection, name, at_s, *, trigger="schedule", gpus=("0",)):
    store_windows.create(connection, name, trigger, at_s, state="analysing")
    made = [{"gpu": each, "family": "gemm", "dispatches": 2, "busy_s": 1.0} for each in gpus]
    store_windows.commit_window_result(connection, {"window_id": name, "families": made})


def written(store, group):
    return store.write(group).result(10)


def updated(store, totals, now_s):
    with store.read() as connection:
        totals.update(connection, now_s)


def test_a_clock_that_is_set_ahead_and_back_doubles_nothing(store):
    totals = KernelTotals(NOON)
    written(store, lambda c: add(c, "w1", NOON + 10))
    for now_s in (NOON + 20, NOON + 400 * 86_400, NOON + 30):
        updated(store, totals, now_s)
        assert totals.busy_s == {("0", "gemm"): 1.0} and totals.dispatches == {("0", "gemm"): 2.0}


def test_what_was_dropped_is_no_measurement_of_this_node(store):
    totals = KernelTotals(NOON)
    written(store, lambda c: add(c, "spool-1", NOON + 10, trigger="spool"))
    updated(store, totals, NOON + 20)
    assert not totals.busy_s and totals.windows == {("ok", "spool"): 1}


def test_names_without_end_make_no_series_without_end(store, monkeypatch):
    monkeypatch.setattr(kernel_totals, "MOST_KEYS", 5)
    totals = KernelTotals(NOON)
    written(store, lambda c: add(c, "w1", NOON + 10, gpus=[f"gpu{i}" for i in range(50)]))
    written(store, lambda c: add(c, "w2", NOON + 11, gpus=["late"]))
    updated(store, totals, NOON + 20)
    assert len(totals.busy_s) == len(totals.dispatches) == 5
