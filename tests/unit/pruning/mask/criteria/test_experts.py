"""Experts are scored by their gate times the norm of what they make, however the network weighs them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mixtures import Mixed, Sparse, mixtral, network, tokens
from torch import Tensor, nn

import prune_search
from prune_search.pruning.mask.mask_set import ScoreError


def scores(model: nn.Module, inputs: Tensor, criterion: Any = "router") -> dict[str, Tensor]:
    return prune_search.score(criterion, model, [(inputs, None)])


def one_number(scores: Tensor) -> float:
    """What all of them are."""
    assert float(scores.max()) == float(scores.min())
    return float(scores.max())


def test_of_sparse_experts_it_is_the_mean_over_the_tokens_that_chose_them() -> None:
    torch.manual_seed(0)
    model, inputs = network(Sparse()), tokens(40)
    block: Any = model[1]  # type: ignore[index]
    with torch.no_grad():
        seen = model[0](inputs)  # type: ignore[index]
        gates, places = block.gate(seen).softmax(-1).topk(2)
        gates = gates / gates.sum(-1, keepdim=True)
        sizes = torch.stack([one(seen).norm(dim=-1) for one in block.experts], 1)
    share = torch.zeros_like(sizes).scatter(1, places, gates)
    routed = share > 0
    wanted = (share * sizes).sum(0) / routed.sum(0)
    found = scores(model, inputs)
    for at in range(5):
        assert one_number(found[f"1.experts.{at}.0.weight"]) == pytest.approx(wanted[at].item(), rel=1e-5)
    often = scores(model, inputs, {"name": "router", "tokens": "all"})
    each = [one_number(often[f"1.experts.{at}.2.weight"]) for at in range(5)]
    assert each == pytest.approx(((share * sizes).sum(0) / 40).tolist(), rel=1e-5)


@pytest.mark.slow
def test_of_experts_in_one_tensor_gates_and_outputs_are_those_of_the_network() -> None:
    model, inputs = mixtral(num_hidden_layers=1), torch.randint(31, (2, 9))
    found = scores(model, inputs)["model.layers.0.mlp.experts.down_proj"]
    seen: list[Tensor] = []
    block: Any = model.model.layers[0].mlp  # type: ignore[union-attr,index]
    handle = block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(inputs)
        handle.remove()
        hidden = seen[0].reshape(-1, 16)
        _, gates, places = block.gate(hidden)
        for at in range(4):
            gate, up = (hidden @ block.experts.gate_up_proj[at].T).chunk(2, -1)
            size = ((nn.functional.silu(gate) * up) @ block.experts.down_proj[at].T).norm(dim=-1)
            share = (gates * (places == at)).sum(-1)
            wanted = (share * size).sum() / max(1, int((share > 0).sum()))
            assert one_number(found[at]) == pytest.approx(wanted.item(), rel=1e-4)


def test_experts_that_are_not_scored_are_not_watched() -> None:
    torch.manual_seed(0)
    model = network(Mixed(), Sparse())
    names = [f"2.experts.{at}.0.weight" for at in range(5)]
    found = prune_search.score("router", model, [(tokens(), None)], parameters=names)
    assert max(one_number(found[name]) for name in names) > 0


def test_weights_that_cannot_be_seen_are_refused_by_name() -> None:
    with pytest.raises(ScoreError, match=r"1\.experts\.0: no product of its output with a gate was seen"):
        scores(network(Mixed()), tokens())
