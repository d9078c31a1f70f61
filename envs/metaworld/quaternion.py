"""A rotation matrix as a quaternion, without scipy's 40 microseconds and with its very bits."""

from __future__ import annotations

import math

import numpy as np


def from_matrix(matrix: np.ndarray) -> tuple[float, float, float, float]:
    """Return (x, y, z, w) of an orthogonal matrix of 9 numbers in row order.

    The largest of the diagonal and the trace decides which component the others are divided by
    (Markley 2008, Journal of Guidance, Control and Dynamics 31(2)).
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.tolist()
    trace = m00 + m11 + m22
    # The first of equals decides, as in an argmax.
    if m00 >= m11 and m00 >= m22 and m00 >= trace:
        x, y, z, w = 1.0 - trace + 2.0 * m00, m10 + m01, m20 + m02, m21 - m12
    elif m11 >= m22 and m11 >= trace:
        y, z, x, w = 1.0 - trace + 2.0 * m11, m21 + m12, m01 + m10, m02 - m20
    elif m22 >= trace:
        z, x, y, w = 1.0 - trace + 2.0 * m22, m02 + m20, m12 + m21, m10 - m01
    else:
        x, y, z, w = m21 - m12, m02 - m20, m10 - m01, 1.0 + trace
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    return x / norm, y / norm, z / norm, w / norm
