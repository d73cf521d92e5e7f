"""Ranks of one run stay apart in a capture, whatever pid they say they have."""

from rocscope.collectors.builder import CaptureBuilder


def test_two_ranks_with_one_pid_and_no_host_are_two_processes():
    builder = CaptureBuilder()
    first, second = (builder.process(7, rank=rank, name=f"worker {rank}") for rank in (0, 1))
    assert first != second
    assert (builder.process(7, rank=1), builder.process(7, rank=0)) == (second, first)
    assert builder.process(7) == first
    kept = builder.build().manifest.processes
    assert [(each.process, each.pid, each.rank, each.name) for each in kept] == [
        (0, 7, 0, "worker 0"),
        (1, 7, 1, "worker 1"),
    ]


def test_a_rank_learnt_later_is_filled_in():
    builder = CaptureBuilder()
    plain = builder.process(7)
    assert builder.process(7, rank=1, name="worker") == plain
    assert builder.process(7) == plain and builder.process(7, host="other") != plain
    assert builder.process(7, rank=0) not in (plain, 1)
    assert [each.rank for each in builder.build().manifest.processes] == [1, None, 0]
