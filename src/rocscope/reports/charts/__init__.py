"""One chart a file: what is drawn, from an analysis. Text and grid take their colours from the page."""
