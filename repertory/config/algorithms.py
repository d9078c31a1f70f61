"""Algorithms, and the guidance between tasks that the off-policy ones can have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from repertory.config.base import (
    Discount,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Probability,
    Settings,
)
from repertory.config.networks import NetworkConfig


class VTraceConfig(Settings):
    """V-trace actor-critic (Espeholt et al. 2018)."""

    kind: Literal["vtrace"] = "vtrace"
    discount: Discount = 0.99
    rho_clip: PositiveFloat = 1.0
    """rho-bar: decides which policy's value is the fixed point."""
    c_clip: PositiveFloat = 1.0
    """c-bar: decides only how fast it is reached; at most rho_clip."""
    policy_gradient_rho_clip: PositiveFloat = 1.0
    trace_lambda: Probability = 1.0
    entropy_cost: NonNegativeFloat = 0.01
    value_cost: NonNegativeFloat = 0.5
    """Multiplies 1/2 (v - V)^2."""
    loss_reduction: Literal["sum", "mean"] = "sum"
    """Over time and batch. Published IMPALA learning rates assume `sum`."""

    @model_validator(mode="after")
    def _clips(self) -> VTraceConfig:
        if self.c_clip > self.rho_clip:
            raise ValueError(
                f"algorithm.c_clip {self.c_clip} must not exceed algorithm.rho_clip {self.rho_clip}"
            )
        return self


class PpoConfig(Settings):
    """Clipped single-step ratio with GAE (Schulman et al. 2017)."""

    kind: Literal["ppo"] = "ppo"
    discount: Discount = 0.99
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    gae_lambda: Probability = 0.95
    epochs: Positive = 4
    """Passes over each batch of unrolls."""
    minibatches: Positive = 4
    """Parts a batch is cut into, along its unrolls, in every pass."""
    entropy_cost: NonNegativeFloat = 0.01
    value_cost: NonNegativeFloat = 0.5
    normalise_advantage: bool = True
    """Zero mean and unit variance per minibatch."""
    loss_reduction: Literal["sum", "mean"] = "mean"


class ExpertConfig(Settings):
    """An earlier run whose policies are candidates: what processes must know to rebuild them."""

    name: str
    """Name of its run directory."""
    tasks: tuple[str, ...]
    """The tasks it was trained on; the policy of each is a candidate."""
    network: NetworkConfig
    """What its policies were trained with."""


class GuideConfig(Settings):
    """Whose policy acts for a task: its own, or one that guidance chose among all tasks' policies.

    Cross-Task Policy Guidance (He et al. 2024) learns the choice; QMP (Zhang et al. 2025) takes the
    policy that the task's own critic values most; BPT (He et al. 2024, appendix E.5) tries all out.
    """

    kind: Literal["none", "ctpg", "qmp", "bpt"] = "none"
    step: Positive = 10
    """K: agent steps that a choice lasts, and the length of a replay window."""
    hindsight: bool = True
    """Relabel each window with the policy likeliest to have played it (equation 9)."""
    policy_filter: Literal["on", "fallback_only", "off"] = "on"
    """on: choose only among policies worth at least the task's own (equations 11, 12);
    fallback_only: the mask only decides whether none is, as the released code does.
    """
    filter_from: NonNegative = 10_000
    """Updates before which the policy filter is off."""
    filter_samples: Positive = 5
    """M: actions drawn to estimate the task's own value (equation 20)."""
    filter_twins: Literal["mean", "min"] = "mean"
    """How twin critics are joined on both sides of the filter."""
    block: Literal["temperature", "success", "none"] = "temperature"
    """Tasks that act unguided. temperature: those whose log temperature is above the mean
    (equation 14); success: those whose latest training episodes, guided ones included, succeed
    more often than `block_success`.
    """
    block_success: Probability = 0.8
    block_every: Positive = 10_000
    """Updates between decisions of the guide-block gate; each takes effect at the next episode."""
    target_entropy_scale: PositiveFloat = 0.98
    """The guide's target entropy in units of ln N."""
    temperature: PositiveFloat = 1.0
    """The guide's initial temperature; it never exceeds 1."""
    exploration: Probability = 0.1
    """TD3's guide is a DQN: the share of choices that are uniform over what the filter lets by."""
    trial_every: Positive = 50
    """bpt: episodes that a task plays with the policy that won its trials."""
    trial_episodes: Positive = 3
    """bpt: episodes of each trial; their steps are paid for like all others."""
    experts: tuple[str, ...] = ()
    """Run directories whose policies are candidates beside the tasks' own (transfer)."""
    expert_networks: tuple[ExpertConfig, ...] = ()
    """Read off `experts` at launch, one for each: other hosts may not see their directories."""

    def candidate_names(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Return the name of every candidate: the tasks, then `expert:task` for each expert's."""
        lent = (f"{one.name}:{task}" for one in self.expert_networks for task in one.tasks)
        return (*tasks, *lent)


_Limit = Literal["bootstrap", "terminal"]


# `info` is pydantic's ValidationInfo, a protocol that cannot be checked at run time.
def _official_limit(given: _Limit, info: Any) -> _Limit:
    return "terminal" if (info.data or {}).get("compat") == "official" else given


def _official_filter(given: GuideConfig, info: Any) -> GuideConfig:
    if (info.data or {}).get("compat") != "official":
        return given
    return given.model_copy(update={"policy_filter": "fallback_only"})


class _OffPolicyConfig(Settings):
    """What SAC and TD3 share."""

    # Before the settings that it decides.
    compat: Literal["none", "official"] = "none"
    """official: for comparison, what CTPG's released code does where it departs from the paper. It
    sets `time_limit` terminal and `guide.policy_filter` fallback_only; the guide's critics learn
    of a window that ends an episode from its first step alone (an index slip and an aliased array
    there); PCGrad sees losses before rescaling and maskout.
    """
    discount: Discount = 0.99
    target_step: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005
    """tau: share of the online weights in each soft update of the targets."""
    reward_scale: PositiveFloat = 1.0
    """Multiplies rewards on their way into targets; reported returns are always raw."""
    time_limit: Annotated[_Limit, Field(validate_default=True), AfterValidator(_official_limit)] = (
        "bootstrap"
    )
    """bootstrap: a truncated episode's last observation is valued; terminal: taken for an end, as
    CTPG's released code does.
    """
    rescale: Literal["none", "inverse_temperature", "exponential"] = "none"
    """Weights of the tasks' losses. inverse_temperature: N softmax(-log alpha), as all released
    codes; exponential: N softmax(-alpha), as Yang et al. 2020 print it.
    """
    maskout: NonNegativeFloat = 0.0
    """A task whose critic loss exceeds this is left out of an update; 0 never."""
    maskout_from: NonNegative = 100_000
    """Updates before which no task is left out."""
    exploration: Literal["uniform", "policy"] = "uniform"
    """How actors act during `exploration_steps`."""
    exploration_steps: NonNegative = 2_000
    """Agent steps per task before the first update."""
    guide: Annotated[
        GuideConfig, Field(validate_default=True), AfterValidator(_official_filter)
    ] = GuideConfig()


class SacConfig(_OffPolicyConfig):
    """Soft actor-critic (Haarnoja et al. 2018) with a temperature per task."""

    kind: Literal["sac"] = "sac"
    temperature: PositiveFloat = 1.0
    """Initial temperature of every task."""
    temperature_cap: NonNegativeFloat = 0.0
    """Temperatures never exceed this; 0 for no cap (CTPG: 1)."""
    target_entropy_per_action: float = -1.0
    """Target entropy per action dimension."""


class Td3Config(_OffPolicyConfig):
    """Twin delayed deterministic policy gradients (Fujimoto et al. 2018)."""

    kind: Literal["td3"] = "td3"
    action_noise: PositiveFloat = 0.1
    """Standard deviation of the Gaussian that actors add."""
    target_noise: NonNegativeFloat = 0.2
    """Standard deviation of the target policy's smoothing."""
    target_noise_clip: NonNegativeFloat = 0.5
    policy_delay: Positive = 2
    """Critic updates per actor update."""


AlgorithmConfig = Annotated[
    VTraceConfig | PpoConfig | SacConfig | Td3Config, Field(discriminator="kind")
]
