"""Heads, neurons, width and blocks of a transformer: found, masked, and cut out with the same outputs."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from structured_networks import made
from torch import Tensor, nn

import prune_search
from prune_search.compact.from_graph import smaller
from prune_search.pruning.mask.network_units import NO_BLOCK, NOT_PASSED_ON, block_lists
from prune_search.recipe.problems import UserError
from prune_search.tasks.models.networks.vision_transformer import VisionTransformer


def transformer() -> nn.Module:
    torch.manual_seed(0)
    model = VisionTransformer(1, 4, 3, 2, 8, 2, 2, 6).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def masked(model: nn.Module, granularity: str, example: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prune_search.find_mask(
            model, "l2", 0.5, scope="uniform", granularity=granularity, batches=[(example, None)]
        )


@pytest.mark.parametrize(
    ("granularity", "units"),
    [
        pytest.param("head", {f"blocks.{at}.query.weight": (2, 1) for at in range(2)}, marks=pytest.mark.slow),
        pytest.param("neuron", {f"blocks.{at}.up.weight": (6, 3) for at in range(2)}, marks=pytest.mark.slow),
        ("width", {"patches.weight": (8, 4)}),
        ("depth", {"blocks.0.query.weight": (2, 1)}),
    ],
)
def test_units_of_a_transformer_are_cut_out_with_the_masked_networks_outputs(granularity: str, units: Any) -> None:
    model, example = transformer(), torch.randn(3, 1, 4, 4)
    mask = masked(model, granularity, example)
    assert dict(mask.units) == units
    mask.apply(model)
    small = smaller(model, example)
    assert not small.reason
    nonzero = sum(int((parameter != 0).sum()) for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in small.network.parameters()) == nonzero
    with torch.no_grad():
        assert torch.allclose(small.network(example), model(example), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["head", "neuron", "width"])
def test_grouped_queries_tied_embeddings_and_gates_go_together(granularity: str) -> None:
    model, example = made("gpt")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    mask = masked(model, granularity, example)
    assert (
        dict(mask.units)
        == {
            "head": {"query.weight": (2, 1)},
            "neuron": {"gate.weight": (20, 10)},
            "width": {"mix.weight": (16, 8)},
        }[granularity]
    )
    mask.apply(model)
    small = smaller(model, example)
    with torch.no_grad():
        assert torch.allclose(small.network(example), model(example), rtol=1e-4, atol=1e-5)
    nonzero = sum(int((parameter != 0).sum()) for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in small.network.parameters()) == nonzero


class Behind(nn.Module):
    """A norm behind the addition: with its weights at 0 it gives 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.layer(x))  # type: ignore[no-any-return]


def test_a_block_that_does_not_pass_on_its_input_stays_and_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(Behind(), Behind()), nn.Linear(4, 2))
    assert [name for name, _ in block_lists(model)] == ["1.0", "1.1"]
    with pytest.raises(UserError) as error:
        masked(model, "depth", torch.randn(2, 3))
    assert f"1.0.layer.weight: {NOT_PASSED_ON}" in str(error.value)
    assert f"0.weight: {NO_BLOCK}" in str(error.value)


class Skip(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.layer(x).tanh()
        return out


class Stage(nn.Module):
    """Two residual blocks, behind a layer where the width changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.change = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs)
        self.blocks = nn.Sequential(Skip(outputs), Skip(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.change(x))  # type: ignore[no-any-return]


def test_the_blocks_within_stages_go_and_what_changes_the_width_between_them_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(Stage(4, 4), Stage(4, 6), Stage(6, 8)), nn.Linear(8, 2))
    example = torch.randn(5, 3)
    mask = masked(model, "depth", example)
    assert dict(mask.units) == {"1.0.blocks.0.layer.weight": (6, 3)}
    assert mask.left_out["1.1.change.weight"] == NOT_PASSED_ON
    mask.apply(model)
    small = smaller(model, example)
    with torch.no_grad():
        assert torch.equal(small.network(example), model(example))
    nonzero = sum(int((parameter != 0).sum()) for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in small.network.parameters()) == nonzero


def test_layers_one_after_the_other_are_no_residual_blocks() -> None:
    def layers() -> nn.Sequential:
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    # Without its weights the first gives 0, and so all behind it are given 0, and give 0.
    with pytest.raises(UserError, match="no residual blocks that can be removed"):
        masked(nn.Sequential(nn.Sequential(layers(), layers(), layers()), nn.Linear(4, 2)), "depth", torch.randn(2, 4))


def test_what_is_no_unit_of_the_kind_is_named_with_the_kind_that_it_is() -> None:
    mask = masked(transformer(), "head", torch.randn(3, 1, 4, 4))
    assert mask.left_out["blocks.0.up.weight"] == "its units are hidden neurons of an MLP, not attention heads"
    assert "normalization" in mask.left_out["patches.weight"]
    with pytest.raises(UserError, match="no attention heads that can be removed"):
        masked(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "head", torch.randn(2, 3))


class Sloped(nn.Module):
    """Attention whose scores fall with the distance, by another slope in each head (ALiBi), and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.joined = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down, self.out = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = self.qkv(x).view(batch, length, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        slopes = 0.5 ** torch.arange(1, 3)
        falling = slopes[:, None, None] * torch.arange(length).sub(length)[None, None, :]
        scores = query @ key.transpose(-1, -2) + falling
        x = x + self.joined((scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, 8))
        return self.out((x + self.down(torch.relu(self.up(x)))).mean(1))  # type: ignore[no-any-return]


def test_features_of_attention_without_heads_are_no_neurons_and_the_refusal_says_what_is_per_head() -> None:
    torch.manual_seed(0)
    model, x = Sloped().eval(), torch.randn(2, 5, 8)
    given: dict[str, Any] = {"example_input": x, "scope": "uniform"}
    with pytest.warns(UserWarning, match="are not pruned"):
        masks = prune_search.find_mask(model, "l1", 0.5, granularity="neuron", **given)
    assert {name for name, mask in masks.items() if not mask.all()} == {"up.weight", "down.weight"}
    with pytest.raises(UserError, match=r"removed \(qkv\.weight: its features .* but no heads can be told apart"):
        prune_search.find_mask(model, "l1", 0.5, granularity="head", **given)
