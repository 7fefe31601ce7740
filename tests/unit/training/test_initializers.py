"""w(0): each parameter drawn by itself, from the seed and its own name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import INITS

DRAWING = ("kaiming", "xavier", "kaiming-uniform")


class Small(nn.Module):
    """One of everything, registered in either order."""

    def __init__(self, backwards: bool = False) -> None:
        super().__init__()
        parts: list[tuple[str, nn.Module]] = [
            ("conv", nn.Conv2d(4, 8, 3, groups=2)),
            ("up", nn.ConvTranspose2d(8, 4, 2)),
            ("norm", nn.BatchNorm2d(8)),
            ("layer_norm", nn.LayerNorm(6)),
            ("embedding", nn.Embedding(7, 5)),
            ("attention", nn.MultiheadAttention(8, 2)),
            ("line", nn.Linear(30, 10)),
        ]
        for name, part in reversed(parts) if backwards else parts:
            self.add_module(name, part)


def test_normal_weights_have_the_given_deviation_whatever_their_fan_in() -> None:
    model = nn.Sequential(nn.Linear(400, 100), nn.Linear(100, 300))
    INITS["normal"].make(model, 3, std=0.02)
    for layer in model:
        assert isinstance(layer, nn.Linear)
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
        assert not layer.bias.any()
    once = state(model)
    INITS["normal"].make(model, 3, std=0.04)
    torch.testing.assert_close(model[0].weight, 2 * once["0.weight"])


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def spoil(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for value in model.state_dict().values():
            value.fill_(7)
    return model


@pytest.mark.parametrize("name", DRAWING)
def test_what_stood_there_before_and_the_order_of_modules_do_not_matter(name: str) -> None:
    one, other = Small(), spoil(Small(backwards=True))
    INITS[name].make(one, 3)
    torch.manual_seed(1234)
    INITS[name].make(other, 3)
    assert equal(state(one), state(other))


@pytest.mark.parametrize("name", DRAWING)
def test_seed_and_stream_give_other_weights(name: str) -> None:
    states = []
    for seed, stream in [(0, "init"), (1, "init"), (0, "reinit")]:
        model = Small()
        INITS[name].make(model, seed, stream)
        states.append(state(model))
    for weight in ("conv.weight", "up.weight", "embedding.weight", "attention.in_proj_weight", "line.weight"):
        assert len({tuple(found[weight].flatten().tolist()) for found in states}) == 3


@pytest.mark.parametrize("name", DRAWING)
def test_another_part_of_the_network_changes_nothing(name: str) -> None:
    alone = nn.ModuleDict({"line": nn.Linear(30, 10)})
    together = nn.ModuleDict({"first": nn.Linear(3, 3), "line": nn.Linear(30, 10)})
    INITS[name].make(alone, 0)
    INITS[name].make(together, 0)
    assert torch.equal(alone.get_parameter("line.weight"), together.get_parameter("line.weight"))


@pytest.mark.parametrize("name", DRAWING)
def test_normalisation_starts_anew(name: str) -> None:
    model = spoil(Small())
    INITS[name].make(model, 0)
    found = model.state_dict()
    for zero in ("norm.bias", "norm.running_mean", "norm.num_batches_tracked", "layer_norm.bias"):
        assert not found[zero].any(), zero
    for one in ("norm.weight", "norm.running_var", "layer_norm.weight"):
        assert (found[one] == 1).all(), one


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [
        (nn.Linear(400, 100), 400, 100),
        (nn.Conv1d(64, 64, 5), 320, 320),
        (nn.Conv2d(32, 64, 3), 288, 576),
        (nn.Conv2d(64, 128, 3, groups=4), 144, 1152),
        (nn.Conv3d(8, 32, 3), 216, 864),
        (nn.ConvTranspose2d(32, 64, 3), 576, 288),
    ],
)
def test_the_spread_is_that_of_the_papers(layer: nn.Linear, fan_in: int, fan_out: int) -> None:
    deviations = {"kaiming": math.sqrt(2 / fan_in), "xavier": math.sqrt(2 / (fan_in + fan_out))}
    for name, deviation in deviations.items():
        INITS[name].make(layer, 0)
        assert layer.weight.mean().abs() < 0.05 * deviation
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert not layer.bias.any()
    INITS["kaiming-uniform"].make(layer, 0)
    bound = 1 / math.sqrt(fan_in)
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= bound
        assert parameter.abs().max() > 0.9 * bound
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.25)


def test_kaiming_uniform_has_the_bounds_of_torch_itself() -> None:
    torch.manual_seed(0)
    by_torch = nn.Conv2d(16, 64, 3)
    ours = nn.Conv2d(16, 64, 3)
    INITS["kaiming-uniform"].make(ours, 0)
    for mine, theirs in zip(ours.parameters(), by_torch.parameters(), strict=True):
        assert mine.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.1)


def test_a_shared_parameter_belongs_to_the_first_module() -> None:
    embedding, head = nn.Embedding(7, 5), nn.Linear(5, 7, bias=False)
    alone = nn.ModuleDict({"embedding": nn.Embedding(7, 5)})
    head.weight = embedding.weight
    tied = nn.ModuleDict({"embedding": embedding, "head": head})
    INITS["kaiming"].make(tied, 0)
    INITS["kaiming"].make(alone, 0)
    assert head.weight is embedding.weight
    assert torch.equal(embedding.weight, alone.get_parameter("embedding.weight"))


def test_the_type_of_the_weights_is_kept_and_the_draw_is_that_of_float32() -> None:
    single, double = nn.Linear(3, 4), nn.Linear(3, 4).double()
    INITS["kaiming"].make(single, 0)
    INITS["kaiming"].make(double, 0)
    assert double.weight.dtype == torch.float64
    assert torch.equal(double.weight, single.weight.double())


def test_a_parameter_outside_of_any_rule_stays_as_built() -> None:
    model = nn.ParameterDict({"scale": nn.Parameter(torch.tensor([2.0, 3.0]))})
    INITS["kaiming"].make(model, 0)
    assert model["scale"].tolist() == [2.0, 3.0]


def test_as_built_changes_nothing() -> None:
    model = Small()
    before = state(model)
    INITS["as-built"].make(model, 0)
    assert equal(before, state(model))


@pytest.mark.parametrize("name", DRAWING)
def test_the_global_generator_and_gradients_are_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    model = Small()
    torch.set_rng_state(before)
    INITS[name].make(model, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.requires_grad and p.is_leaf and p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("kaiming", [-0.711802, -0.107403, 1.154014, 1.208212, 0.0, 0.0]),
        ("xavier", [-0.50332, -0.075946, 0.816011, 0.854335, 0.0, 0.0]),
        ("kaiming-uniform", [0.446155, 0.232918, 0.04035, 0.513982, -0.080043, -0.17012]),
    ],
)
def test_the_values_never_change(name: str, values: list[float]) -> None:
    model = nn.ModuleDict({"fc": nn.Linear(2, 2)})
    INITS[name].make(model, 0)
    found = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert found.tolist() == pytest.approx(values, abs=1e-5)
