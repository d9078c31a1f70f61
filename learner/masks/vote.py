"""A mask for a task that was not trained on, by the vote of those that were.

Axes: M tasks, P maskable weights.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64


def voted_mask(
    masks: Bool[np.ndarray, "M P"], threshold: float | None = None
) -> Bool[np.ndarray, " P"]:
    """Return the weights that more than `threshold` tasks own (Hu et al. 2024); 0.8 M by default.

    At the published sparsity 0.2 a weight has 0.8 M votes on average, so that the default keeps
    those with more than their share of votes. The published 25 of 50 tasks keeps all but two
    weights in a million of masks that are still random, which is no mask at all.
    """
    votes: Int64[np.ndarray, " P"] = masks.sum(0, dtype=np.int64)
    if threshold is None:
        # In whole numbers: 0.8 M is not always one where it should be.
        votes, threshold = 5 * votes, 4.0 * masks.shape[0]
    voted: Bool[np.ndarray, " P"] = votes > threshold
    return voted
