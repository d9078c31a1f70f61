"""Losses as pure functions of tensors: rows out, no reduction, nothing in place."""
