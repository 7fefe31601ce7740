"""Experts and their routers are found, and a router is closed to experts of which a mask leaves nothing."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 - a network that lost experts travels to workers through a pickle

import pytest
import torch
from mixtures import Layers, Mixed, Sparse, TwoRouters, Unrouted, expert, mixtral, network
from torch import nn

from prune_search.pruning.mask.mask_set import keep_all
from prune_search.tasks.experts import all_opened, close_routes, closed_routers, expert_blocks
from prune_search.tasks.layers import prunable_weights


def closing(model: nn.Module, gone: list[int]) -> dict[str, torch.Tensor]:
    """A mask without some experts of the first block."""
    masks = {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in model.named_parameters()}
    (block, *_), _ = expert_blocks(model)
    for at in gone:
        for name in block.owned[at] if block.owned else ():
            masks[name][:] = False
        for name in (*block.stacked, *block.rows):
            masks[name][at] = False
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.masked_fill_(~masks[name], 0.0)
    return masks


def test_experts_of_a_list_and_their_router_are_found() -> None:
    (block,), reasons = expert_blocks(network(Sparse()))
    assert (block.name, block.router, block.count, block.inside) == ("1.experts", "1.gate", 5, "1")
    assert block.rows == ("1.gate.weight",)
    assert block.owned[1] == (
        "1.experts.1.0.weight",
        "1.experts.1.0.bias",
        "1.experts.1.2.weight",
        "1.experts.1.2.bias",
    )
    assert not reasons


@pytest.mark.slow
def test_experts_of_transformers_are_found_in_their_one_tensor_and_are_prunable() -> None:
    model = mixtral()
    blocks, _ = expert_blocks(model)
    name = "model.layers.1.mlp"
    assert blocks[1].stacked == (f"{name}.experts.gate_up_proj", f"{name}.experts.down_proj")
    assert (blocks[1].router, blocks[1].rows, blocks[1].count) == (f"{name}.gate", (f"{name}.gate.weight",), 4)
    assert {*blocks[1].stacked, *blocks[1].rows} <= prunable_weights(model).keys()


@pytest.mark.parametrize("model", [network(Layers()), network(nn.Linear(4, 4))])
def test_layers_one_after_the_other_are_no_experts(model: nn.Module) -> None:
    assert expert_blocks(model) == ([], {})


def test_why_a_router_is_not_known_is_said_of_its_experts() -> None:
    model = network(TwoRouters(), Unrouted())
    blocks, reasons = expert_blocks(model)
    assert not blocks
    assert "several layers beside 1.experts have 3 outputs (1.router, 1.noise_gate)" in reasons["1.experts.0.0.weight"]
    assert "no layer beside 2.experts has 3 outputs" in reasons["2.experts.2.2.weight"]


def test_experts_that_share_weights_are_none() -> None:
    block = Mixed()
    for one in block.experts:
        one[0].weight = block.experts[0][0].weight  # type: ignore[index]
    blocks, reasons = expert_blocks(network(block))
    assert not blocks
    assert set(reasons.values()) == {"its experts share weights with each other, or with something else"}


@pytest.mark.parametrize("stacked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_closed_router_says_minus_infinity_of_removed_experts(stacked: bool) -> None:
    model = mixtral() if stacked else network(Sparse())
    inputs = torch.randint(31, (2, 5)) if stacked else torch.randn(7, 6)
    masks = closing(model, [0, 2])
    close_routes(model, masks)
    ((name, router),) = closed_routers(model).items()
    found = router(torch.randn(3, 16 if stacked else 4))
    logits = found[0] if isinstance(found, tuple) else found
    assert logits[:, [0, 2]].eq(-torch.inf).all()
    assert logits[:, [1, 3]].isfinite().all()
    made = model(inputs)
    assert (made.logits if stacked else made).isfinite().all()
    # A copy has routers of its own; they are as closed.
    twin = copy.deepcopy(model)
    again = twin(inputs)
    assert torch.equal(again.logits, made.logits) if stacked else torch.equal(again, made)
    assert twin.get_submodule(name).forward.router is twin.get_submodule(name)  # type: ignore[attr-defined]
    with all_opened(model):
        assert not closed_routers(model)
    assert list(closed_routers(model)) == [name]


def test_a_router_is_open_to_experts_that_have_weights_again() -> None:
    model = network(Sparse())
    before = copy.deepcopy(model.state_dict())
    close_routes(model, closing(model, [1]))
    router = closed_routers(model)["1.gate"]
    model.load_state_dict(before)
    assert router(torch.randn(3, 4)).isfinite().all()
    close_routes(model, {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in model.named_parameters()})
    assert not closed_routers(model)


def test_single_zeros_close_no_router() -> None:
    model = network(Sparse())
    masks = closing(model, [1])
    masks["1.experts.1.0.weight"][0, 0] = True
    close_routes(model, masks)
    assert not closed_routers(model)


def test_an_expert_with_a_bias_or_its_row_of_the_router_left_is_one() -> None:
    for name in ("1.gate.weight", "1.experts.1.2.bias"):
        model = network(Sparse())
        masks = closing(model, [1])
        masks[name][:] = True
        close_routes(model, masks)
        assert not closed_routers(model), name
    # A folder has masks of weights only: of biases their values tell.
    model = network(Sparse())
    masks = {name: mask for name, mask in closing(model, [1]).items() if name in prunable_weights(model)}
    close_routes(model, masks)
    assert list(closed_routers(model)) == ["1.gate"]
    with torch.no_grad():
        model.get_parameter("1.experts.1.2.bias")[0] = 1.0
    close_routes(model, masks)
    assert not closed_routers(model)


@pytest.mark.parametrize("block", [Sparse(), Mixed()])
def test_where_no_expert_is_left_the_outputs_are_numbers(block: nn.Module) -> None:
    model = network(block)
    close_routes(model, closing(model, list(range(len(block.experts)))))  # type: ignore[arg-type]
    assert model(torch.randn(5, 6)).isfinite().all()


def test_a_closed_network_can_be_pickled() -> None:
    model = network(Sparse())
    close_routes(model, closing(model, [1, 3]))
    again = pickle.loads(pickle.dumps(model))
    inputs = torch.randn(5, 6)
    assert torch.equal(again(inputs), model(inputs))
    assert again[1].gate.forward.router is again[1].gate


def test_a_forward_that_was_set_before_or_after_stays() -> None:
    model, seen = network(Sparse()), []
    router = model.get_submodule("1.gate")

    def wrapped(name: str) -> None:
        inner = router.forward

        def forward(*args: torch.Tensor) -> torch.Tensor:
            seen.append(name)
            found: torch.Tensor = inner(*args)
            return found

        router.forward = forward

    wrapped("before")
    masks = closing(model, [1])
    close_routes(model, masks)
    wrapped("after")
    logits = router(torch.randn(3, 4))
    assert seen == ["after", "before"]
    assert logits[:, 1].eq(-torch.inf).all()
    close_routes(model, {})
    assert router(torch.randn(3, 4)).isfinite().all()
    assert seen == ["after", "before"] * 2
    close_routes(model, masks)
    close_routes(model, {})
    assert router(torch.randn(3, 4)).isfinite().all()
    assert seen == ["after", "before"] * 3


def test_modules_in_several_places_are_no_obstacle() -> None:
    class Half(nn.Module):
        def __init__(self, embed: nn.Module) -> None:
            super().__init__()
            self.embed = embed
            self.layers = nn.ModuleList(expert() for _ in range(2))

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            embed = nn.Embedding(7, 4)
            self.encoder, self.decoder = Half(embed), Half(embed)

    model = Both()
    assert expert_blocks(model) == ([], {})
    keep_all(prunable_weights(model)).apply(model)
    # A router, too, may be one of several blocks'.
    one, other = Mixed(), Mixed()
    other.router = one.router
    blocks, _ = expert_blocks(network(one, other))
    assert [block.rows for block in blocks] == [("1.router.weight", "1.router.bias")] * 2


def test_experts_may_be_called_otherwise_where_a_router_is() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(expert() for _ in range(2))
            self.router = nn.Linear(4, 2)

    (block,), _ = expert_blocks(Block())
    assert (block.name, block.router) == ("branches", "router")
