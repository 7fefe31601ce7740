"""Torch-Pruning's groups as what channels own of several layers."""

from __future__ import annotations

import pytest
import torch
import torch_pruning
from torch import Tensor, nn
from torch_pruning.dependency.dependency import Dependency
from torch_pruning.dependency.group import Group
from torch_pruning.dependency.node import Node

import prune_search
from prune_search.pruning.mask.dependency_groups import (
    MAX_VISITS,
    EndlessError,
    _Visited,
    channels_of,
    dependency_groups,
    makers_of,
)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.inner, self.outer = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.norm(self.stem(inputs))
        found = found + self.outer(torch.relu(self.inner(found)))
        scores: Tensor = self.head(found.mean(dim=(2, 3)))
        return scores


class Words(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.inner(input_ids=inputs, use_cache=False).logits
        return scores


def test_what_a_shortcut_adds_up_goes_together_and_outputs_stay() -> None:
    model = Residual().train()
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups, lost = dependency_groups(model, [model.get_parameter("head.weight")], torch.zeros(2, 1, 5, 5))
    made = {frozenset(makers_of(group, names)): channels_of(model, group, names) for group in groups}
    assert not lost
    assert set(made) == {frozenset({"stem.weight", "outer.weight"}), frozenset({"inner.weight"})}
    both = made[frozenset({"stem.weight", "outer.weight"})]
    assert both is not None
    assert both.size == 4
    assert set(both.owners) == {"stem.weight", "outer.weight"}
    claims = {(claim.parameter, claim.role, claim.dimension) for claim in both.claims}
    assert {
        ("stem.bias", "held", 0),
        ("norm.weight", "scale", 0),
        ("inner.weight", "reader", 1),
        ("head.weight", "reader", 1),
    } <= claims
    assert {claim.parameter for claim in both.beside} == {"norm.running_mean", "norm.running_var"}
    # The network is left as it was.
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_layer_that_is_come_to_too_often_with_other_channels_ends_the_search() -> None:
    layer, other = nn.Linear(2, 3), nn.Linear(3, 2)
    targets = [Node(layer, "layer"), Node(other, "other")]
    ways = [Dependency(None, torch_pruning.prune_linear_out_channels, target, target) for target in targets]
    group, visited = Group(), _Visited()
    group.add_dep(ways[1], [0])
    for place in range(MAX_VISITS):
        group.add_dep(ways[0], [place])
    assert visited.has(group, ways[0], [0])
    assert not visited.has(group, ways[0], [MAX_VISITS])
    assert not visited.has(group, ways[1], [MAX_VISITS])
    group.add_dep(ways[0], [MAX_VISITS])
    assert visited.has(group, ways[1], [0])
    with pytest.raises(EndlessError):
        visited.has(group, ways[0], [0])
    assert not visited.has(Group(), ways[0], [0])


class Flat(nn.Module):
    """Pictures that become rows before a linear layer reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.hidden, self.out = nn.Conv2d(3, 8, 3), nn.Linear(8 * 4 * 4, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.hidden(torch.relu(self.first(x)).flatten(1))))  # type: ignore[no-any-return]


def test_torch_pruning_is_given_up_where_it_follows_too_many_places_and_the_graph_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model, pictures = Flat().eval(), torch.randn(2, 3, 6, 6)
    assert not dependency_groups(model, [], pictures)[1]
    monkeypatch.setattr("prune_search.pruning.mask.dependency_groups.MAX_MAPPED", 1)
    lost = dependency_groups(model, [], pictures)[1]
    assert any(weight is model.first.weight for weight in lost)
    masks = prune_search.find_mask(model, "l1", 0.5, scope="uniform", granularity="channel", example_input=pictures)
    assert [int(masks[name].flatten(1).any(1).sum()) for name in ("first.weight", "hidden.weight")] == [4, 3]


@pytest.mark.slow
def test_rotary_embeddings_with_shared_keys_are_given_up_soon_and_the_graph_has_their_channels() -> None:
    """Torch-Pruning alone comes to no end."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 20}
    config = transformers.LlamaConfig(
        **sizes, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=16, use_cache=False
    )
    torch.manual_seed(0)
    model, words = Words(transformers.LlamaForCausalLM(config).eval()), torch.randint(20, (2, 8))
    _, lost = dependency_groups(model, [], words)
    assert lost
    with pytest.warns(UserWarning, match="are not pruned"):
        masks = prune_search.find_mask(
            model, "l1", 0.5, scope="uniform", granularity="channel", batches=[(words, None)]
        )
    halves = {f"inner.model.layers.{layer}.mlp.{name}_proj.weight" for layer in (0, 1) for name in ("up", "gate")}
    assert halves <= set(masks)
    assert all(masks[name].float().mean() == 0.5 for name in halves)
