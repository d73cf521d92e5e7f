"""Hardware counters of each architecture: blocks, limits, groups, levels."""
