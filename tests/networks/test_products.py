"""Products by another library than torch's own against float64, with their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from repertory.networks import products
from repertory.networks.products import linear, masked_relu_layer, prefers_onednn, relu_layer


def exact_copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def assert_same_with_gradients(
    ours: torch.Tensor,
    of_ours: Sequence[torch.Tensor],
    exact: torch.Tensor,
    of_exact: Sequence[torch.Tensor],
) -> None:
    """Compare outputs, and the gradients of one projection of them."""
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(3))
    own = torch.autograd.grad((ours * pull).sum(), of_ours)
    expected = torch.autograd.grad((exact * pull).sum(), of_exact)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5)
    for one, other in zip(own, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4)


def drawn(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(*shape, generator=generator, requires_grad=True) for shape in shapes]


has_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch without oneDNN"
)


@has_onednn
def test_the_other_librarys_layer_is_as_exact_as_torchs() -> None:
    tensors = drawn((100, 70), (70, 50), (50,))
    exact = exact_copies(tensors)
    product = (exact[0] @ exact[1] + exact[2]).clamp(min=0.0)
    assert_same_with_gradients(relu_layer(*tensors), tensors, product, exact)


@has_onednn
@pytest.mark.parametrize("form", [torch.float32, torch.bool])
def test_a_layer_under_masks_is_each_tasks_own_layer(form: torch.dtype) -> None:
    tensors = drawn((90, 70), (70, 50), (50,))
    masks = [torch.rand(70, 50, generator=torch.Generator().manual_seed(i)) > 0.3 for i in range(3)]
    exact = exact_copies(tensors)
    parts = [
        (rows @ (exact[1] * mask) + exact[2]).clamp(min=0.0)
        for rows, mask in zip(torch.split(exact[0], 30), masks, strict=True)
    ]
    ours = masked_relu_layer(*tensors, [mask.to(form) for mask in masks])
    assert_same_with_gradients(ours, tensors, torch.cat(parts), exact)


@has_onednn
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("processor", ["AuthenticAMD avx512f", "GenuineIntel"])
def test_a_dense_layer_is_the_same_by_either_library(
    biased: bool, processor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A ring of rows, as recurrent layers have them, large enough to be worth the other library.
    tensors = drawn((5, 40, 200), (70, 200), *([(70,)] if biased else []))
    exact = exact_copies(tensors)
    product = torch.nn.functional.linear(*exact)
    monkeypatch.setattr(products, "_processor", lambda: processor)
    assert prefers_onednn(tensors[0].flatten(0, 1), 70) == ("AMD" in processor)
    ours = linear(tensors[0], tensors[1], tensors[2] if biased else None)
    assert_same_with_gradients(ours, tensors, product, exact)


def test_few_rows_and_float64_are_left_to_torch() -> None:
    assert not prefers_onednn(torch.zeros(6, 400), 400)
    assert not prefers_onednn(torch.zeros(1280, 400, dtype=torch.float64), 400)
