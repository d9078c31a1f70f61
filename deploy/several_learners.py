"""How several learners share a run: whose workers are whose, what each has of batch and replay, and
what is not shared yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.worker_numbers import planned_workers
from repertory.config import PpoConfig, RunConfig, SacConfig, Td3Config
from repertory.errors import BadInput
from repertory.seeding import integer

if TYPE_CHECKING:
    from learner.parallel.exchange import Exchange


def share_of(config: RunConfig, rank: int) -> RunConfig:
    """Return the run as one learner has it: its workers, its part of the batch and of the replay.

    The run itself where there is one learner. Every learner has all tasks.
    """
    learners = config.learner.count
    if learners == 1:
        return config
    size = config.learner.batch_size // learners
    update: dict[str, object] = {
        "seed": integer(config.seed, "learner", rank),
        "actors": config.actors.model_copy(update={"count": len(workers_of(config, rank))}),
        "learner": config.learner.model_copy(update={"count": 1, "batch_size": size}),
        "replay": config.replay.model_copy(update={"capacity": config.replay.capacity // learners}),
    }
    if isinstance(config.algorithm, SacConfig | Td3Config):
        first = -(-config.algorithm.exploration_steps // learners)
        update["algorithm"] = config.algorithm.model_copy(update={"exploration_steps": first})
    return config.model_copy(update=update)


def workers_of(config: RunConfig, rank: int) -> range:
    """Return the workers that deliver to a learner from the start: worker i to learner i mod N."""
    return range(rank, planned_workers(config), config.learner.count)


def exchange_of(config: RunConfig, rank: int) -> Exchange:
    """Return one learner's door to the others, which it has yet to meet."""
    from learner.actor_critic_update import choose_device
    from learner.parallel.exchange import ALONE
    from learner.parallel.processes import ProcessExchange

    learners = config.learner.count
    if learners == 1:
        return ALONE
    device = choose_device(config.learner.device)
    return ProcessExchange(rank, learners, device, config.learner.exchange_timeout_s)


def check(config: RunConfig) -> None:
    """Refuse what several learners cannot do, before anything starts.

    Raises:
        BadInput: a method whose parts are not added up over learners, or shares that do not divide.
    """
    learners = config.learner.count
    if learners == 1:
        return
    problem = _not_shared(config) or _not_divided(config)
    if problem:
        raise BadInput(f"learner.count {learners}: {problem}")


def _not_shared(config: RunConfig) -> str | None:
    algorithm, method = config.algorithm, config.gradients.method
    if config.runtime == "local":
        return "runtime local is one process with one learner: use --runtime cluster"
    if isinstance(algorithm, PpoConfig):
        return "ppo's minibatches are not shared by learners: use --algorithm.kind vtrace"
    if method != "mean":
        return (
            f"gradients.method {method} needs each task's gradient over the whole batch, which "
            "learners do not share: use mean"
        )
    if isinstance(algorithm, SacConfig | Td3Config) and algorithm.guide.kind == "ctpg":
        return (
            "the guide of algorithm.guide.kind ctpg learns from windows, which learners do not "
            "share: use qmp, bpt or none"
        )
    if config.learner.compile == "on":
        return (
            "a compiled update cannot add up with other learners: use learner.compile auto or off"
        )
    return None


def _not_divided(config: RunConfig) -> str | None:
    learners, batch = config.learner.count, config.learner.batch_size
    if batch % learners:
        above = (batch // learners + 1) * learners
        fitting = f"{above - learners} or {above}" if above > learners else f"{above}"
        return f"learner.batch_size {batch} cannot be shared equally: {fitting} could"
    if planned_workers(config) < learners:
        return (
            f"actors.count {config.actors.count} leaves some learner without a worker: "
            f"make it at least {learners}"
        )
    return None
