"""Runs that begin with the weights of an earlier one: their config, checks, and the weights."""
