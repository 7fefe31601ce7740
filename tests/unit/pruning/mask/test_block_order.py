"""Layers that are decided block by block, against a plain reference that is written here."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from block_network import BATCHES, Network, network
from torch import Tensor, nn

import prune_search
from prune_search.pruning.mask.finder import Finder
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.recipe.blocks import Mask
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space

# Embeddings are never pruned, which is told.
pytestmark = pytest.mark.filterwarnings("ignore:.*layers of this kind are not pruned")


def inputs_of(model: nn.Module, layer: nn.Module) -> Tensor:
    """What comes into a layer of a network, [places, inputs], over all batches."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        for tokens, _ in BATCHES:
            model(tokens)
    handle.remove()
    return torch.cat(seen).double()


def plain(model: Network, prune: Any) -> None:
    """Prune block by block in place: whole passes through the network, nothing shared."""
    for block in model.parts:
        layers = [block.up, block.gate, block.down]
        rows = [inputs_of(model, layer) for layer in layers]
        with torch.no_grad():
            for layer, x in zip(layers, rows, strict=True):
                layer.weight.copy_(prune(layer.weight.double(), x))


def lowest(scores: Tensor, count: int) -> Tensor:
    """Per row, True for so many lowest scores; of equal ones the last go."""
    gone = torch.zeros_like(scores, dtype=torch.bool)
    for row, values in enumerate(scores.tolist()):
        for place in sorted(range(len(values)), key=lambda place: (values[place], -place))[:count]:
            gone[row, place] = True
    return gone


def by_wanda(weight: Tensor, x: Tensor, run: int = 0) -> Tensor:
    scores = weight.abs() * x.norm(dim=0)
    width = run or scores.shape[1]
    gone = lowest(scores.reshape(-1, width), width // 2).reshape(scores.shape)
    return weight.masked_fill(gone, 0)


def by_sparsegpt(weight: Tensor, x: Tensor, run: int = 0, columns: int = 8) -> Tensor:
    """Optimal brain surgeon of one column after the other, the inverse of what is left computed anew each time."""
    h = x.T @ x
    h = h + 0.01 * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)
    w, width = weight.clone(), len(h)
    gone = torch.zeros_like(w, dtype=torch.bool)
    # [(H_jj…)⁻¹]_00 for the columns from j on, which is U_jj² of the sweep.
    inverses = [torch.linalg.inv(h[place:, place:]) for place in range(width)]
    first = torch.stack([inverse[0, 0] for inverse in inverses])
    step = run or columns
    for place in range(width):
        if place % step == 0:
            scores = w[:, place : place + step].square() / first[place : place + step]
            if run:
                gone[:, place : place + step] = lowest(scores, step // 2)
            else:
                gone[:, place : place + step] = lowest(scores.reshape(1, -1), scores.numel() // 2).reshape(scores.shape)
        error = torch.where(gone[:, place], w[:, place], 0.0) / first[place]
        w[:, place:] -= error[:, None] * inverses[place][0]
        w[:, place].masked_fill_(gone[:, place], 0.0)
    return w


@pytest.mark.parametrize("granularity", ["weight", "2:4", "4:8"])
@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
def test_each_block_is_pruned_on_what_the_pruned_blocks_before_it_make(criterion: str, granularity: str) -> None:
    ours, theirs = network(), network()
    run = {"weight": 0, "2:4": 4, "4:8": 8}[granularity]
    rule = by_wanda if criterion == "wanda" else by_sparsegpt
    options: dict[str, Any] = {} if criterion == "wanda" else {"columns": 8}
    plain(theirs, lambda weight, x: rule(weight, x, run))
    mask = prune_search.prune_blocks(
        ours, criterion, None if run else 0.5, granularity=granularity, batches=BATCHES, **options
    )
    for name, weight in ours.blocks.named_parameters():
        wanted = theirs.blocks.get_parameter(name)
        assert torch.equal(weight == 0, wanted == 0), name
        assert torch.allclose(weight, wanted, atol=1e-5), name
        assert weight.dim() == 1 or torch.equal(mask[f"blocks.{name}"], weight != 0), name
    assert torch.equal(ours.head.weight, theirs.head.weight)
    receipt = mask.receipt()
    assert receipt.blocks == "blocks: 3 of Block"
    assert receipt.units_kept * 2 == 3 * 3 * 16 * 48
    assert {one.name: one.reason for one in receipt.left_out}["head.weight"].startswith("it is outside of the blocks")


def test_a_mask_is_found_on_a_network_that_is_left_as_it_was() -> None:
    model, pruned = network().train(), network()
    before = copy.deepcopy(model.state_dict())
    found = prune_search.find_mask(
        model, "wanda", 0.5, {"name": "uniform", "order": "blocks"}, batches=BATCHES, mode="eval"
    )
    assert found.sha256 == prune_search.prune_blocks(pruned, "wanda", 0.5, batches=BATCHES).sha256
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    together = prune_search.find_mask(model, "wanda", 0.5, "uniform", batches=BATCHES, parameters=list(found.units))
    assert together.sha256 != found.sha256  # the blocks after the first see other inputs


def test_controls_that_need_no_data_have_the_same_counts() -> None:
    for criterion in ("magnitude", "random"):
        model = network()
        mask = prune_search.prune_blocks(model, criterion, 0.5)
        assert mask.receipt().units_kept * 2 == 3 * 3 * 16 * 48
        assert bool((model.head.weight != 0).all())


def test_what_does_not_go_block_by_block_is_refused() -> None:
    blocks = {"name": "uniform", "order": "blocks"}
    with pytest.raises(UserError, match=r"scope.order: 'blocks' needs a criterion that scores a layer by its own"):
        prune_search.find_mask(network(), "snip", 0.5, blocks, batches=BATCHES)
    with pytest.raises(UserError, match=r"granularity: must be of single weights"):
        prune_search.find_mask(network(), "wanda", 0.5, blocks, "filter", batches=BATCHES)
    with pytest.raises(UserError, match=r"batches: are required by criterion sparsegpt"):
        prune_search.prune_blocks(network(), "sparsegpt", 0.5)


def test_outliers_are_those_of_the_dense_blocks() -> None:
    model = network()
    rule = MaskRule.of(mask_of({"name": "owl", "outlier": 2.0, "order": "blocks"}))
    data = ScoringData(lambda iteration: BATCHES, None, 0, 1)
    found = Finder(model, rule, data, None).outliers(2.0)
    for place, block in enumerate(model.parts):
        layers = {"up": block.up, "gate": block.gate, "down": block.down}
        scores = torch.cat(
            [(one.weight.double().abs() * inputs_of(model, one).norm(dim=0)).flatten() for one in layers.values()]
        )
        wanted = float((scores > 2.0 * scores.mean()).double().mean())
        assert 0 < wanted < 1
        for name in layers:
            assert abs(found[f"blocks.{place}.{name}.weight"] - wanted) < 1e-9
    assert "head.weight" not in found


def mask_of(scope: Any, criterion: str = "wanda") -> Mask:
    score = {"mode": "eval"}
    return Mask.of({"at": "end", "criterion": criterion, "scope": scope, "granularity": "weight", "score": score})


def test_dense_blocks_are_kept_denser_by_a_scope() -> None:
    model = network()
    mask = prune_search.prune_blocks(model, "wanda", 0.5, {"name": "ramp", "first": 0.3, "last": 0.7}, batches=BATCHES)
    kept = {name: count / size for name, (size, count) in mask.units.items()}
    found = [kept[f"blocks.{place}.down.weight"] for place in range(3)]
    assert found == pytest.approx([0.7, 0.5, 0.3], abs=0.01)


def test_a_block_that_is_not_given_what_the_one_before_makes_is_refused() -> None:
    class Skipping(Network):
        def forward(self, tokens: Tensor) -> Tensor:
            hidden = self.embedding(tokens)
            made: Tensor = self.head(torch.stack([block(hidden, scale=1.0)[0] for block in self.blocks]).sum(0))
            return made

    with pytest.raises(UserError, match=r"blocks.1 does not receive the output of the block before it"):
        prune_search.prune_blocks(Skipping(), "wanda", 0.5, batches=BATCHES)


def test_one_shot_recipes_are_named_by_their_preset_whatever_the_blocks_sparsities() -> None:
    for mask in (
        {"granularity": "4:8"},
        {"scope": {"name": "owl", "order": "blocks", "outlier": 3.0}, "sparsity": 0.7},
        {"scope": {"name": "ramp", "order": "blocks", "first": 0.3}},
    ):
        recipe = read_space({"preset": "sparsegpt", "mask": mask}, "a test").only_recipe()
        assert paradigm(recipe) == "sparsegpt"
