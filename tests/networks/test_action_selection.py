"""Actions from logits: the right frequencies, the right log-probabilities, repeatable."""

from __future__ import annotations

import numpy as np

from repertory.networks.acting import select_actions
from repertory.seeding import stream

LOGITS = np.array([[0.0, 1.0, -2.0], [50.0, 0.0, 0.0]], np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return shares in float64."""
    shares = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def test_sampled_actions_have_the_frequencies_of_the_softmax() -> None:
    draws = 20_000
    actions, _ = select_actions(np.repeat(LOGITS[:1], draws, 0), stream(1, "test"), False)
    frequencies = np.bincount(actions, minlength=3) / draws
    np.testing.assert_allclose(frequencies, softmax(LOGITS[:1])[0], atol=0.015)


def test_log_probabilities_are_those_of_the_actions() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    for greedy in (False, True):
        actions, log_probability = select_actions(logits, stream(1, "test"), greedy)
        expected = np.log(softmax(logits)[np.arange(50), actions])
        np.testing.assert_allclose(log_probability, expected, rtol=1e-5)
        assert actions.dtype == np.int64
        assert log_probability.dtype == np.float32


def test_greedy_takes_the_largest_and_draws_nothing() -> None:
    generator = stream(1, "test")
    actions, _ = select_actions(LOGITS, generator, True)
    assert actions.tolist() == [1, 0]
    assert generator.integers(1 << 30) == stream(1, "test").integers(1 << 30)


def test_the_same_stream_gives_the_same_actions() -> None:
    many = np.repeat(LOGITS[:1], 100, 0)
    first, _ = select_actions(many, stream(1, "test"), False)
    again, _ = select_actions(many, stream(1, "test"), False)
    other, _ = select_actions(many, stream(2, "test"), False)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
