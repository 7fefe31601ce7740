"""Removed experts are cut out with the masked network's outputs, whatever counts them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from mixtures import Keyed, Mixed, Sparse, expert, mixtral, network, tokens
from torch import Tensor, nn

import prune_search
from prune_search.compact.experts import without_experts
from prune_search.compact.from_graph import smaller
from prune_search.compact.metrics import compact_or_masked
from prune_search.compact.tracing import UndescribedError, described
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.tasks.experts import closed_routers
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.models.networks.mixture import Mixture


def pruned(model: nn.Module, inputs: Tensor, **more: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = prune_search.find_mask(model, "l2", 0.5, granularity="expert", batches=[(inputs, None)], **more)
    mask.apply(model)
    return model


class Counting(Sparse):
    """Counts its experts under a name that says nothing of experts."""

    def __init__(self) -> None:
        super().__init__(count=6)
        self.size = 6

    def forward(self, x: Tensor) -> Tensor:
        self.num_experts = self.size
        return super().forward(x)


@pytest.mark.parametrize("block", [Sparse(), Mixed(), Keyed(), Mixture(4, 3, 4, 2), Counting()])
def test_experts_are_cut_out_with_the_masked_networks_outputs(block: nn.Module) -> None:
    torch.manual_seed(2)
    model = pruned(network(block), tokens())
    cut = without_experts(model, tokens())
    assert cut is not None
    assert cut.network is not None
    ((name, (went, count)),) = cut.removed.items()
    assert name == "1.experts"
    assert went > 0
    assert len(cut.network.get_submodule(name)) == count - went  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.allclose(cut.network(tokens(9)), model(tokens(9)), atol=1e-6)
    ((_, router),) = closed_routers(model).items()
    # The masked network is as it was, and the other needs nothing to be told.
    assert closed_routers(model)
    assert not closed_routers(cut.network)
    owned = sum(p.numel() for p in expert(hidden=3).parameters()) + sum(p[0].numel() for p in router.parameters())
    sizes = [sum(p.numel() for p in one.parameters()) for one in (model, cut.network)]
    assert sizes[1] == sizes[0] - went * owned


def test_nothing_is_cut_out_where_all_routers_are_open() -> None:
    assert without_experts(network(Sparse()), tokens()) is None


def test_code_that_names_an_expert_keeps_them_and_says_so() -> None:
    class Named(Sparse):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0 * self.experts[4](x)  # type: ignore[no-any-return]

    cut = without_experts(pruned(network(Named()), tokens()), tokens())
    assert cut is not None
    assert cut.network is None
    assert "could not be cut out: it does not run without them (IndexError" in cut.reason


class Configured(nn.Module):
    """Two blocks of four, of which each token chooses one, and a configuration."""

    def __init__(self, counts: str) -> None:
        super().__init__()
        self.blocks = network(Mixture(4, 3, 4, 1), Mixture(4, 3, 4, 1))
        self.config = Configuration({counts: 4})

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]


class Configuration:
    def __init__(self, values: dict[str, int]) -> None:
        vars(self).update(values)

    def to_dict(self) -> dict[str, int]:
        return dict(vars(self))


@pytest.mark.parametrize(
    ("counts", "blocks", "config", "unsaid"),
    [
        ("num_experts", (1, 2), {"num_experts": (4, 1)}, ""),
        ("num_experts", (1,), {}, "for all blocks, which have 1 of 4 in blocks.1.experts, 4 of 4 in blocks.2.experts"),
        ("heads", (1, 2), {}, "no value of the configuration counts the 4 experts of a block"),
    ],
)
def test_a_configuration_says_how_many_are_left_where_one_number_says_it(
    counts: str, blocks: tuple[int, ...], config: dict[str, tuple[int, int]], unsaid: str
) -> None:
    torch.manual_seed(0)
    model = Configured(counts).eval()
    masks = {name: torch.ones_like(one, dtype=torch.bool) for name, one in model.named_parameters()}
    for block in blocks:
        for name, mask in masks.items():
            if name.startswith(tuple(f"blocks.{block}.experts.{at}." for at in range(3))):
                mask[...] = False
            if name.startswith(f"blocks.{block}.router."):
                mask[:3] = False
    MaskSet(masks).apply(model)
    cut = without_experts(model, tokens())
    assert cut is not None
    assert cut.network is not None
    assert dict(cut.config) == config
    assert unsaid in cut.unsaid
    assert bool(unsaid) == bool(cut.unsaid)


def test_experts_that_a_mask_of_single_weights_empties_are_not_cut_out() -> None:
    model = network(Sparse())
    masks = {
        name: torch.full_like(one, not name.startswith("1.experts.2."), dtype=torch.bool)
        for name, one in prunable_weights(model).items()
    }
    MaskSet(masks).apply(model)
    assert not closed_routers(model)
    assert without_experts(model, tokens()) is None
    # Nor are those that have weights again.
    model = pruned(network(Sparse()), tokens())
    model.load_state_dict(network(Sparse()).state_dict())
    assert without_experts(model, tokens()) is None


@pytest.mark.slow
def test_no_description_and_no_graph_is_made_of_a_network_that_needs_to_be_told() -> None:
    model = pruned(network(Sparse()), tokens())
    with pytest.raises(UndescribedError, match=r"1\.gate: no longer routes to removed experts"):
        described(model, (6,))
    # torch.export cannot follow it either.
    small = compact_or_masked(model, tokens(1))
    assert len(small.get_submodule("1.experts")) < 5  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_graph_is_that_of_the_network_without_them() -> None:
    model = pruned(network(Mixture(4, 3, 4, 2)), tokens())
    small = smaller(model, tokens())
    assert small.removed["1.experts"] == (2, 4)
    assert small.cut is not None
    with torch.no_grad():
        assert torch.allclose(small.network(tokens(9)), model(tokens(9)), atol=1e-6)


@pytest.mark.slow
def test_a_configuration_says_how_many_are_left_where_all_blocks_have_equally_many() -> None:
    inputs = torch.randint(31, (2, 5))
    model = pruned(mixtral(), inputs, scope="uniform")
    cut = without_experts(model, inputs)
    assert cut is not None
    assert cut.network is not None
    assert dict(cut.config) == {"num_local_experts": (4, 2)}
    network: Any = cut.network
    assert (network.config.num_local_experts, network.num_experts) == (2, 2)
    assert model.config.num_local_experts == 4  # type: ignore[union-attr]
    with torch.no_grad():
        assert torch.allclose(cut.network(inputs).logits, model(inputs).logits, atol=1e-6)
