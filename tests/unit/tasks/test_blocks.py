"""Which blocks a network has, and batches that go through them one block at a time."""

from __future__ import annotations

import pytest
import torch
from block_network import BATCHES, network
from torch import Tensor, nn

from prune_search.tasks.blocks import Chain, find_blocks


def chain_of(model: nn.Module, inputs: list[Tensor]) -> list[list[Tensor]]:
    """Per block, the values that come into it."""
    chain = Chain(model, find_blocks(model), inputs)
    return [[value.clone() for value in chain._values] for _ in chain]


def test_the_longest_list_of_equal_modules_outside_of_others() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(8))

    model = nn.Module()
    model.stem = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
    model.layers = nn.ModuleList(Mixture() for _ in range(3))
    model.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(9))
    model.others = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    found = find_blocks(model)
    assert (found.name, len(found.modules), found.told) == ("layers", 3, "layers: 3 of Mixture")
    assert found.weights[1][0] == "layers.1.experts.0.weight"
    assert (found.place_of("layers.2.experts.7.weight"), found.place_of("stem.0.weight")) == (2, None)


def test_a_network_without_such_a_list_is_one_block() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    found = find_blocks(model)
    assert (found.name, found.modules, found.weights) == ("", (model,), (("0.weight", "2.weight"),))
    assert "no repeated blocks" in found.told


def test_every_batch_comes_through_as_in_a_pass_with_what_each_block_is_given_besides() -> None:
    model, wanted = network(), []
    hooks = [
        block.register_forward_pre_hook(lambda module, args: wanted.append(args[0].clone())) for block in model.blocks
    ]
    with torch.no_grad():
        for tokens, _ in BATCHES:
            model(tokens)
    for hook in hooks:
        hook.remove()
    seen = chain_of(model, [tokens for tokens, _ in BATCHES])
    for place, values in enumerate(seen):
        assert all(torch.equal(value, wanted[3 * number + place]) for number, value in enumerate(values))
    assert all("forward" not in vars(block) for block in model.blocks)


def test_what_a_block_is_given_besides_may_be_another_for_each_batch_and_is_kept_once_where_it_is_not() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Shift() for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            # One tensor follows from the batch, the other is made anew with the same values.
            by, same = x.mean(), torch.ones(3)
            for block in self.blocks:
                x = block(hidden=x, by=by, same=same)
            return x

    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, hidden: Tensor, by: Tensor, same: Tensor) -> Tensor:
            return self.layer(hidden) + by * same  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, inputs = Shifted(), [torch.randn(2, 3), torch.randn(2, 3)]
    chain = Chain(model, find_blocks(model), inputs)
    turns = list(chain)
    with torch.no_grad():
        assert all(
            torch.allclose(model(x), chain._calls[n][1].made(model.blocks[1], chain._values[n], turns[1].device))
            for n, x in enumerate(inputs)
        )
    first, second = (calls[0].kwargs for calls in chain._calls)
    assert first["same"] is second["same"]
    assert first["by"] is not second["by"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_block_is_on_the_device_for_its_turn_only() -> None:
    model = network()
    chain = Chain(model, find_blocks(model), [tokens for tokens, _ in BATCHES], torch.device("cuda"))
    for turn in chain:
        turn.run()
        on = [next(block.parameters()).device.type for block in model.blocks]
        assert on == ["cuda" if place == turn.place else "cpu" for place in range(3)]
    assert all(not parameter.is_cuda for parameter in model.parameters())
