"""A clock that stands still until it is told to go on."""


class ManualClock:
    def __init__(self, monotonic_s=1000.0, wall_s=1_700_000_000.0):
        self.now_s, self.unix_s = monotonic_s, wall_s

    def monotonic_s(self):
        return self.now_s

    def wall_s(self):
        return self.unix_s

    def go(self, seconds):
        self.now_s += seconds
        self.unix_s += seconds
