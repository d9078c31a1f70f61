"""Scores of tasks that mean the same for every task, and what may be said of many of them."""
