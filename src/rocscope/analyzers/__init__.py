"""Analyzers: each adds one kind of finding to a study. One file an analyzer."""
