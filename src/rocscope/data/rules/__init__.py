"""One TOML a GPU."""
