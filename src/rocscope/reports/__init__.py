"""Reports: each renders the same analysis for another reader. One file a format."""
