"""Clocks that a test moves."""

from rocscope.daemon.wall_clock import WallClock

NOON = 1_800_000_000.0


class Hands:
    """What a test turns: the wall, and real time."""

    def __init__(self, wall_s: float = NOON, since_boot_s: float = 1000.0) -> None:
        self.wall_s, self.real_s = wall_s, since_boot_s

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.real_s += seconds

    def clock(self, boot_id: str = "boot-1") -> WallClock:
        return WallClock(
            wall=lambda: self.wall_s,
            monotonic=lambda: self.real_s,
            since_boot=lambda: self.real_s,
            boot_id=boot_id,
        )
