"""Launching: starting a command in its own session, watching its processes, ending them in order."""
