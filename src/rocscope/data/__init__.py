"""Data files: GPUs, kernel families, rules."""
