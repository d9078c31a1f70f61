"""Task masks of a shared network: drawn, scored, updated, voted on and watched, as pure functions.

Hu et al. 2024 (Harmony Multi-Task Decision Transformer, arXiv 2405.18080), carried to learners that
see all tasks in every update.
"""
