"""Collectors: raw recordings and live sources in, captures out. One file a format or source."""
