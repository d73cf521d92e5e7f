"""Known kernels under every profiler of a machine, and what each read held against what must be true."""
