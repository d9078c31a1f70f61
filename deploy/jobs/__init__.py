"""Runs as jobs of a cluster that somebody else started: what is shipped, and the way to its API."""
