"""The daemon: always on, on every inference node; cheap, bounded, safe.

The resident process imports neither pyarrow nor pandas, numpy or plotly: what needs them, or reads what
others wrote, runs in a child that ends.
"""
