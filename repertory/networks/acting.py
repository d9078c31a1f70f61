"""What actors need: a copy of the network fit for inference, and actions chosen from logits.

Axes: L lanes, A actions.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from jaxtyping import Float32, Int64

from repertory.config import MemoryFormat, Precision
from repertory.networks.actor_critic import ActorCritic
from repertory.networks.kept_memory import keep_freed_memory
from repertory.networks.layers import use_channels_last, wants_channels_last
from repertory.networks.precision import number_format


def select_actions(
    logits: Float32[np.ndarray, "L A"], generator: np.random.Generator, greedy: bool
) -> tuple[Int64[np.ndarray, " L"], Float32[np.ndarray, " L"]]:
    """Return an action per lane and its log-probability under softmax(logits).

    Sampling adds Gumbel noise and takes the largest (Gumbel 1954; Maddison et al. 2014); greedy
    takes the largest logit and draws nothing. Drawn with numpy, a run repeats to the bit.
    """
    noise = 0.0 if greedy else generator.gumbel(size=logits.shape)
    action = np.argmax(logits + noise, axis=-1)
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(-1))
    chosen = shifted[np.arange(len(action)), action]
    return action, (chosen - log_sum).astype(np.float32)


def for_acting(
    network: ActorCritic, precision: Precision = "auto", memory_format: MemoryFormat = "auto"
) -> ActorCritic:
    """Return a copy fit for inference on the CPU: no gradients, in the formats asked for.

    With bfloat16 everything before the heads is held in it; heads and PopArt statistics stay
    float32.
    """
    keep_freed_memory()
    acting = copy.deepcopy(network).to("cpu").eval().requires_grad_(False)
    wanted = number_format(precision, torch.device("cpu"))
    acting.number_format = torch.float32 if acting.reads_vectors else wanted
    for part in (acting.torso, acting.conditioning, acting.memory):
        if part is not None:
            part.to(acting.number_format)
    acting.channels_last = wants_channels_last(memory_format)
    if acting.channels_last:
        use_channels_last(acting)
    return acting
