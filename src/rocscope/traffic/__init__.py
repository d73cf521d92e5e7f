"""Load on a server: a small seeded generator of our own, vLLM's benchmark, or any command."""
