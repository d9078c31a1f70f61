"""Losses, optimisers and one update class per algorithm, and the loop that drives them."""
