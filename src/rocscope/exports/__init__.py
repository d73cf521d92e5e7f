"""Exports: each writes a capture for another tool. One file a format."""
