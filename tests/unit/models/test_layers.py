"""Dropout and linear maps on a CPU against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from edt_cli.config import ModelSettings
from edt_cli.models.backbones import Attention, SASRec, compile_backbones
from edt_cli.models.kernels import dropout, linear, torch_alone, twice_differentiable
from edt_cli.models.layers import Dropout
from edt_cli.models.losses import sampled_softmax


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 7), (1, 7)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_and_its_gradients_are_those_of_float64(shape: tuple[int, ...], with_bias: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(3, 7)
    given = [x, weight, *([torch.randn(3)] if with_bias else [])]
    single = [t.clone().requires_grad_() for t in given]
    double = [t.double().requires_grad_() for t in given]
    gradient = torch.randn(*shape[:-1], 3)
    linear(*single).backward(gradient)
    F.linear(*double).backward(gradient.double())
    torch.testing.assert_close(linear(*single).double(), F.linear(*double), rtol=1e-5, atol=1e-5)
    for one, other in zip(single, double, strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_the_rest(rate: float) -> None:
    torch.manual_seed(1)
    x = torch.ones(401, 503, requires_grad=True)
    y = Dropout(rate)(x)
    kept = y != 0
    assert abs(float(kept.float().mean()) - (1 - rate)) < 0.005
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - rate)), rtol=1e-4, atol=0)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert abs(float((kept[:, 1:] & kept[:, :-1]).float().mean()) - (1 - rate) ** 2) < 0.005


def test_dropout_does_nothing_in_evaluation() -> None:
    x = torch.randn(3, 5)
    assert Dropout(0.5).eval()(x) is x


def test_attention_with_dropout_is_attention_when_nothing_is_dropped() -> None:
    torch.manual_seed(2)
    attention = Attention(8, 2, 1e-9)
    x = torch.randn(4, 6, 8)
    mask = torch.rand(4, 1, 6, 6) < 0.7
    mask[..., 0] = True
    for how in ({"causal": True}, {"mask": mask}, {}):
        torch.testing.assert_close(attention.train()(x, **how), attention.eval()(x, **how))


def test_the_last_state_alone_is_the_last_of_all_states() -> None:
    torch.manual_seed(3)
    backbone = SASRec(ModelSettings(hidden=8, blocks=2, heads=2, max_length=9)).eval()
    lengths = torch.tensor([9, 4, 1, 0])
    x = torch.randn(4, 9, 8)
    expected = backbone(x, lengths)[torch.arange(4), (lengths - 1).clamp_min(0)] * (lengths > 0).unsqueeze(1)
    torch.testing.assert_close(backbone.last(x, lengths), expected)


def test_what_is_twice_differentiable_has_the_second_derivatives_of_float64() -> None:
    """Of products, attention and the shared softmax: the gradient of a gradient."""
    torch.manual_seed(0)
    x, weight, others, attention = torch.randn(3, 5, 8), torch.randn(8, 8), torch.randn(15, 4), Attention(8, 2, 0.0)

    def curvature(dtype: torch.dtype) -> torch.Tensor:
        w = weight.to(dtype).requires_grad_()
        mixed = linear(attention.to(dtype)(linear(x.to(dtype), w), causal=True), w)
        own, rest = mixed.sum(2).flatten(), others.to(dtype) * w.sum()
        exact = -torch.cat([own[:, None], rest], 1).log_softmax(1)[:, 0]
        losses = sampled_softmax(own, rest) if dtype == torch.float32 else exact
        (gradient,) = torch.autograd.grad(losses.sum(), w, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), w)[0]

    with twice_differentiable():
        found, expected = curvature(torch.float32), curvature(torch.float64)
    torch.testing.assert_close(found, expected.float(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 7)])
def test_kernels_can_be_turned_off_and_give_what_torch_gives(shape: tuple[int, ...]) -> None:
    torch.manual_seed(4)
    x, weight, bias = torch.randn(shape), torch.randn(3, 7), torch.randn(3)
    fast = linear(x, weight, bias)
    with torch_alone():
        plain = linear(x, weight, bias)
    assert torch.equal(plain, F.linear(x, weight, bias))
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_dropout_drops_depends_on_chance_alone(dtype: torch.dtype) -> None:
    """By the same draws, every tensor of a shape loses the same places; the rest is what torch makes of it."""
    x = torch.randn(40, 50).to(dtype)
    torch.manual_seed(5)
    kept = dropout(torch.ones(40, 50), 0.3) != 0
    torch.manual_seed(5)
    torch.testing.assert_close(
        dropout(x, 0.3), (x * kept / 0.7).to(dtype), rtol=1e-2 if dtype != x.float().dtype else 1e-4, atol=0
    )
    with torch_alone():
        torch.manual_seed(5)
        plain = dropout(x, 0.3)
    torch.manual_seed(5)
    assert torch.equal(plain, F.dropout(x, 0.3))


def test_attention_without_the_kernels_is_torch_s() -> None:
    torch.manual_seed(6)
    attention, x = Attention(8, 2, 0.0), torch.randn(4, 6, 8)
    fast = attention.train()(x, causal=True)
    with torch_alone():
        torch.testing.assert_close(attention(x, causal=True), fast, rtol=1e-5, atol=1e-6)


def test_a_compiled_backbone_gives_the_same_for_any_batch_and_its_weights_keep_their_names() -> None:
    """Traced, but not translated, which needs a compiler."""
    torch.manual_seed(2)
    backbone = SASRec(ModelSettings(hidden=8, blocks=1, dropout=0.0, max_length=12)).train()
    names = list(backbone.state_dict())
    batches = [(torch.randn(users, length, 8), torch.full((users,), length)) for users, length in ((3, 5), (4, 9))]
    plain = [backbone(*batch) for batch in batches]
    plain[0].sum().backward()
    gradients = [parameter.grad.clone() for parameter in backbone.parameters()]
    backbone.zero_grad()
    compile_backbones(backbone, "eager")
    torch._dynamo.utils.counters.clear()
    compiled = [backbone(*batch) for batch in batches]
    compiled[0].sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(other, one)
    for parameter, gradient in zip(backbone.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert list(backbone.state_dict()) == names
