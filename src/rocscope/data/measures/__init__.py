"""Formulas from hardware counters to measures, one file a group of tools or architectures."""
