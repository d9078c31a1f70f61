"""V-trace against a slow sum over products, hand-worked cases, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from learner.losses.vtrace import VTrace, discounts, vtrace


def run(
    ratio: object,
    *,
    value: object = (0.0, 0.0, 4.0),
    reward: object = (1.0, 2.0),
    discount: object = (0.5, 0.5),
    valid: object = (True, True),
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    policy_gradient_rho_clip: float = 1.0,
    trace_lambda: float = 1.0,
) -> VTrace:
    """Run one column (or arrays [T, B]) with everything given as plain numbers."""

    def column(numbers: object) -> torch.Tensor:
        tensor = torch.as_tensor(np.asarray(numbers, np.float32))
        return tensor.unsqueeze(-1) if tensor.dim() == 1 else tensor

    log_ratio = column(ratio).log()
    behaviour = torch.full_like(log_ratio, -1.3)
    return vtrace(
        log_probability=behaviour + log_ratio,
        behaviour_log_probability=behaviour,
        reward=column(reward),
        discount=column(discount),
        valid=column(valid).bool(),
        value=column(value),
        rho_clip=rho_clip,
        c_clip=c_clip,
        policy_gradient_rho_clip=policy_gradient_rho_clip,
        trace_lambda=trace_lambda,
    )


def close(tensor: torch.Tensor, numbers: object) -> None:
    """Require equality to float tolerance."""
    np.testing.assert_allclose(tensor.squeeze(-1).numpy(), numbers, rtol=1e-5, atol=1e-6)


def slow_twin(case: dict[str, np.ndarray], clips: dict[str, float]) -> tuple[np.ndarray, ...]:
    """Sum over s <= t of discounted products of c, written as the paper prints it."""
    ratio, reward, discount = case["ratio"], case["reward"], case["discount"]
    value, valid = case["value"], case["valid"]
    steps, columns = reward.shape
    rho = np.minimum(ratio, clips["rho_clip"])
    c = clips["trace_lambda"] * np.minimum(ratio, clips["c_clip"])
    target = value.copy()
    for b in range(columns):
        for s in range(steps):
            for t in range(s, steps):
                weight = 1.0
                for i in range(s, t):
                    weight *= discount[i, b] * c[i, b] if valid[i, b] else 0.0
                if valid[t, b]:
                    bootstrap = reward[t, b] + discount[t, b] * value[t + 1, b]
                    target[s, b] += weight * rho[t, b] * (bootstrap - value[t, b])
    advantage = np.zeros_like(reward)
    for b in range(columns):
        for t in range(steps):
            if valid[t, b]:
                q = reward[t, b] + discount[t, b] * target[t + 1, b]
                rho_pg = min(clips["policy_gradient_rho_clip"], ratio[t, b])
                advantage[t, b] = rho_pg * (q - value[t, b])
    return target[:-1], advantage


def random_case(seed: int, steps: int = 9, columns: int = 5) -> dict[str, np.ndarray]:
    """Draw a case with ends, resetting steps and ratios on both sides of every clip."""
    random = np.random.default_rng(seed)
    terminated = random.random((steps, columns)) < 0.2
    return {
        "ratio": np.exp(random.normal(size=(steps, columns))),
        "reward": random.normal(size=(steps, columns)),
        "discount": 0.9 * ~terminated,
        "valid": random.random((steps, columns)) < 0.8,
        "value": random.normal(size=(steps + 1, columns)),
    }


CLIPS = [
    {"rho_clip": 1.0, "c_clip": 1.0, "policy_gradient_rho_clip": 1.0, "trace_lambda": 1.0},
    {"rho_clip": 3.0, "c_clip": 0.7, "policy_gradient_rho_clip": 1.5, "trace_lambda": 0.8},
    {"rho_clip": 0.5, "c_clip": 0.5, "policy_gradient_rho_clip": 8.0, "trace_lambda": 0.0},
]


@pytest.mark.parametrize("clips", CLIPS)
@pytest.mark.parametrize("seed", range(5))
def test_the_recursion_equals_the_double_sum(seed: int, clips: dict[str, float]) -> None:
    case = random_case(seed)
    fast = run(**case, **clips)
    target, advantage = slow_twin(case, clips)
    np.testing.assert_allclose(fast.target.numpy(), target, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fast.advantage.numpy(), advantage, rtol=1e-4, atol=1e-5)


def test_on_policy_targets_of_the_hand_case() -> None:
    result = run((1.0, 1.0))
    close(result.target, (3.0, 4.0))
    close(result.advantage, (3.0, 4.0))


def test_a_ratio_below_one_shrinks_its_own_and_earlier_steps() -> None:
    result = run((0.5, 1.0))
    close(result.target, (1.5, 4.0))
    close(result.advantage, (1.5, 4.0))


def test_large_ratios_are_clipped_to_the_on_policy_case() -> None:
    close(run((8.0, 8.0)).target, (3.0, 4.0))


def test_rho_and_c_are_clipped_apart() -> None:
    result = run((8.0, 8.0), rho_clip=8.0)
    close(result.target, (24.0, 32.0))
    # q_0 = 1 + 0.5 * 32 and q_1 = 2 + 0.5 * 4, both weighted with the third clip, 1.
    close(result.advantage, (17.0, 4.0))


def test_the_policy_gradient_has_a_clip_of_its_own() -> None:
    close(run((8.0, 8.0), policy_gradient_rho_clip=2.0).advantage, (6.0, 8.0))


def test_nothing_comes_back_from_behind_a_termination() -> None:
    discount = discounts(torch.tensor([[True], [False]]), 0.5).squeeze(-1).numpy()
    close(run((1.0, 1.0), discount=discount).target, (1.0, 4.0))


def test_a_truncated_episode_bootstraps_from_its_own_last_observation() -> None:
    # Step 0 is cut; step 1 resets (its observation, of value 6, is the cut episode's last); step 2
    # belongs to the next episode. Whatever stands in the resetting step's reward is not seen.
    result = run(
        (1.0, 1.0, 1.0),
        value=(0.0, 6.0, 10.0, 20.0),
        reward=(1.0, float("nan"), 100.0),
        discount=(0.5, 0.5, 0.5),
        valid=(True, False, True),
    )
    close(result.target, (1.0 + 0.5 * 6.0, 6.0, 100.0 + 0.5 * 20.0))
    close(result.advantage, (4.0, 0.0, 100.0))


def test_with_lambda_zero_targets_look_one_step_ahead() -> None:
    case = random_case(3)
    result = run(**case, trace_lambda=0.0)
    rho = np.minimum(case["ratio"], 1.0)
    difference = case["reward"] + case["discount"] * case["value"][1:] - case["value"][:-1]
    expected = case["value"][:-1] + np.where(case["valid"], rho * difference, 0.0)
    np.testing.assert_allclose(result.target.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_on_policy_targets_are_n_step_returns() -> None:
    case = random_case(4)
    case["ratio"] = np.ones_like(case["ratio"])
    case["valid"] = np.ones_like(case["valid"])
    expected = case["value"][-1]
    for step in reversed(range(len(case["reward"]))):
        expected = case["reward"][step] + case["discount"][step] * expected
    np.testing.assert_allclose(run(**case).target[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_two_episodes_in_one_unroll_equal_each_alone() -> None:
    case = random_case(5, steps=8)
    case["valid"] = np.ones_like(case["valid"])
    case["discount"][3] = 0.0
    joined = run(**case)
    for part in (slice(0, 4), slice(4, 8)):
        alone = {name: case[name][part] for name in ("ratio", "reward", "discount", "valid")}
        alone["value"] = case["value"][part.start : part.stop + 1]
        separate = run(**alone)
        np.testing.assert_allclose(separate.target, joined.target[part], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(separate.advantage, joined.advantage[part], rtol=1e-5, atol=1e-6)


def test_permuting_columns_permutes_the_result() -> None:
    case = random_case(6)
    order = np.array([3, 1, 4, 0, 2])
    permuted = run(**{name: array[:, order] for name, array in case.items()})
    assert torch.equal(permuted.target, run(**case).target[:, order])


def test_a_constant_added_to_rewards_without_discount_is_added_to_targets() -> None:
    case = random_case(7)
    case["ratio"], case["discount"] = np.ones_like(case["ratio"]), np.zeros_like(case["discount"])
    case["valid"] = np.ones_like(case["valid"])
    before = run(**case).target
    case["reward"] = case["reward"] + 5.0
    torch.testing.assert_close(run(**case).target, before + 5.0)


def test_what_stands_in_invalid_steps_is_never_seen() -> None:
    case = random_case(8)
    poisoned = {name: array.copy() for name, array in case.items()}
    poisoned["reward"][~case["valid"]] = np.nan
    poisoned["ratio"][~case["valid"]] = np.nan
    clean, dirty = run(**case), run(**poisoned)
    assert torch.equal(clean.target, dirty.target)
    assert torch.equal(clean.advantage, dirty.advantage)


def test_targets_and_advantages_carry_no_gradient() -> None:
    log_probability = torch.zeros(2, 1, requires_grad=True)
    value = torch.zeros(3, 1, requires_grad=True)
    result = vtrace(
        log_probability=log_probability,
        behaviour_log_probability=torch.zeros(2, 1),
        reward=torch.ones(2, 1),
        discount=torch.ones(2, 1),
        valid=torch.ones(2, 1, dtype=torch.bool),
        value=value,
        rho_clip=1.0,
        c_clip=1.0,
        policy_gradient_rho_clip=1.0,
        trace_lambda=1.0,
    )
    assert not any(part.requires_grad for part in result)
