"""What a forward pass does with weights, seen below the modules."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prune_search.tasks.dataflow import flow
from prune_search.tasks.network import output_layers


class Net(nn.Module):
    """Three layers of 4 to 4, and what is done with them."""

    def __init__(self, run: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


RUNS: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "chain": (lambda m, x: m.c(m.b(m.a(x)).relu()), "c"),
    "another order": (lambda m, x: m.a(m.c(m.b(x))).softmax(-1), "a"),
    "wide and deep": (lambda m, x: m.b(m.a(x)) + m.c(x), "bc"),
    "gated": (lambda m, x: m.b(h := m.a(x)) * m.c(h).sigmoid(), "bc"),
    "two heads": (lambda m, x: {"one": m.b(h := m.a(x)), "more": (m.c(h), None)}, "bc"),
    "early exit": (lambda m, x: [m.c(h := m.b(m.a(x))), h], "bc"),
    "shortcut to the output": (lambda m, x: m.c(h := m.a(x)) + h, "ac"),
    "functional": (lambda m, x: F.linear(m.a(x), m.b.weight), "b"),
    "normalized": (lambda m, x: F.linear(m.a(x), F.normalize(m.b.weight)), "b"),
    "turned": (lambda m, x: m.a(x) @ m.b.weight.t(), "b"),
    "einsum": (lambda m, x: torch.einsum("ni,oi->no", m.a(x), m.c.weight), "c"),
    "two weights in one": (lambda m, x: F.linear(m.a(x), m.b.weight @ m.c.weight), "bc"),
    "written into": (lambda m, x: torch.zeros(len(x), 8).index_copy(1, torch.arange(4), m.b(m.a(x))), "b"),
    "attention": (lambda m, x: m.c(m.a(x).softmax(-1) @ m.b(x).T @ x), "c"),
}


@pytest.mark.parametrize("how", RUNS)
def test_whatever_reaches_an_output_is_an_output_layer(how: str) -> None:
    run, wanted = RUNS[how]
    assert output_layers(Net(run), torch.randn(3, 4)) == {f"{name}.weight" for name in wanted}


class Told:
    """An output of a class that torch does not know, which knows itself too."""

    def __init__(self, scores: Tensor, more: Any) -> None:
        self.scores, self.more, self.me = scores, more, self


def test_outputs_are_found_within_objects() -> None:
    net = Net(lambda m, x: Told(m.b(h := m.a(x)), UserDict(one=[m.c(h)])))
    assert output_layers(net, torch.randn(3, 4)) == {"b.weight", "c.weight"}


class Decoder(nn.Module):
    """Scores are products with an embedding, or with a parameter that no layer has."""

    def __init__(self, bare: bool) -> None:
        super().__init__()
        self.emb, self.a, self.b = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.table = nn.Parameter(torch.randn(9, 4)) if bare else self.emb.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.b(self.a(self.emb(x).mean(1))), self.table)


@pytest.mark.parametrize("bare", [False, True])
def test_outputs_that_other_matrices_make_are_no_layers_outputs(bare: bool) -> None:
    found = flow(Decoder(bare), torch.randint(9, (3, 5)))
    assert (found.order, found.last, found.outputs) == (("a.weight", "b.weight"), "b.weight", frozenset())
    assert output_layers(Decoder(bare), torch.randint(9, (3, 5))) == frozenset()


def test_what_a_network_draws_when_it_is_evaluated_moves_no_draw_outside() -> None:
    net = Net(lambda m, x: m.c(F.dropout(m.a(x), 0.5)))
    before = torch.get_rng_state()
    flow(net, torch.randn(3, 4, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), before)


def test_uses_without_a_call_are_told_from_calls() -> None:
    net = Net(lambda m, x: m.c(F.linear(m.b(m.b(x)), m.a.weight)) + F.linear(x, m.c.weight))
    found = flow(net, torch.randn(3, 4))
    assert found.order == ("b.weight", "a.weight", "c.weight")
    assert set(found.uncalled) == {"a.weight", "c.weight"}
    assert found.operations == {"b.weight": 64, "a.weight": 32, "c.weight": 64}


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 8, 3, groups=2, dilation=2),
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"),
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    ],
)
def test_operations_of_convolutions_are_two_per_weight_and_place(layer: nn.Module) -> None:
    x = torch.randn(2, 4, 9, 9)
    places = (x if isinstance(layer, nn.ConvTranspose2d) else layer(x)).shape[2:].numel()
    weight = layer.get_parameter("weight")
    assert flow(layer, x).operations == {"weight": 2.0 * weight.numel() * places}


def test_the_pass_leaves_the_networks_mode_hooks_and_torchs_settings_as_they_were() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    with pytest.raises(AssertionError, match="embedding dimension"):
        flow(layer, torch.randn(2, 3, 9))
    assert layer.training
    assert not any(module._forward_hooks for module in layer.modules())
    after = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    assert after == before
