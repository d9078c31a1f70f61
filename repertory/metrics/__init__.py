"""Metrics: their names, running means over episodes, and the places they go to."""
