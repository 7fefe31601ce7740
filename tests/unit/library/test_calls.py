"""What is wrong with a call of the library is one line that names it, whoever raised it."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prune_search import Dynamics, GrowingPenalty, MaskHook, find_mask, layer_costs, mask_from_scores, next_level, score
from prune_search.library import calls
from prune_search.recipe.problems import UserError

X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
PAIR = [(X, Y)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


class Recomputed(nn.Module):
    """A network whose gradients torch cannot take by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        return torch.utils.checkpoint.checkpoint(self.b, self.a(x), use_reentrant=True)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        raise LookupError("no such table")


def penalty(**arguments: Any) -> GrowingPenalty:
    model = network()
    return GrowingPenalty(model, torch.optim.SGD(model.parameters(), 0.1), **{"sparsity": 0.5, **arguments})


def dynamics(**arguments: Any) -> Dynamics:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return Dynamics("gradual", model, optimizer, **{"sparsity": 0.5, "begin": 0, "end": 4, "every": 1, **arguments})


def another() -> Any:
    return find_mask(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), "magnitude", 0.5)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "no network": (lambda: find_mask({"0.weight": X}, "l1", 0.5), r"model: must be a torch\.nn\.Module \(got dict"),  # type: ignore[arg-type]
    "a class": (lambda: score("l1", Broken), "got the class Broken: pass an instance"),  # type: ignore[arg-type]
    "without values": (lambda: find_mask(network().to("meta"), "l1", 0.5), r"model: 0\.weight.*device meta"),
    "it raises": (lambda: find_mask(Broken(), "snip", 0.5, batches=PAIR), "raised LookupError: no such table.*line"),
    "recomputed": (lambda: find_mask(Recomputed(), "snip", 0.5, batches=PAIR), "raised RuntimeError: .*reentrant"),
    "narrow": (lambda: find_mask(network(), "wanda", 0.5, batches=[(X[:, :4], Y)]), "raised RuntimeError: mat1"),
    "costs": (lambda: layer_costs(network(), X[:, :4]), "raised RuntimeError: mat1"),
    "no input": (lambda: layer_costs(network(), None), "example_input: is missing"),
    "labels": (lambda: find_mask(network(), "snip", 0.5, batches=[(X, Y + 7)]), "raised IndexError: Target"),
    "no labels": (lambda: find_mask(network(), "snip", 0.5, batches=[(X,)]), "no labels"),
    "targets": (lambda: find_mask(network(), "snip", 0.5, batches=[(X, X)], loss="mse"), "do not go with targets"),
    "empty batch": (lambda: find_mask(network(), "snip", 0.5, batches=[(X[:0], Y[:0])]), "batch 0 has no examples"),
    "one pair": (lambda: find_mask(network(), "snip", 0.5, batches=(X, Y)), "batches: must be .*tensors of one batch"),
    "a number": (lambda: find_mask(network(), "snip", 0.5, batches=7), "batches: must be .*got int"),  # type: ignore[arg-type]
    "a loss that raises": (
        lambda: find_mask(network(), "snip", 0.5, batches=PAIR, loss=lambda o, t: o[99]),
        "raised Ind",
    ),
    "a word": (lambda: find_mask(network(), "l1", "90%"), r"sparsity: must be a number from 0 to 1 \(got '90%'"),  # type: ignore[arg-type]
    "yes": (lambda: find_mask(network(), "l1", True), r"sparsity: .*got True"),
    "a criterion": (lambda: find_mask(network(), torch.abs, 0.5), "criterion: is a function.*mask_from_scores"),  # type: ignore[arg-type]
    "no criterion": (lambda: find_mask(network(), None, 0.5), "criterion: must be the name"),  # type: ignore[arg-type]
    "mode": (lambda: score("snip", network(), PAIR, mode="evaluate"), "mode: 'evaluate' is not one of eval, train"),
    "parameters": (lambda: find_mask(network(), "l1", 0.5, parameters="0"), r"parameters: must be a list.*\['0'\]"),
    "seed": (lambda: find_mask(network(), "random", 0.5, seed="x"), "seed: must be a whole number"),  # type: ignore[arg-type]
    "scores": (lambda: mask_from_scores(network(), [X], 0.5), "scores: must be a mapping"),  # type: ignore[arg-type]
    "turned": (lambda: mask_from_scores(network(), {"0": torch.rand(6, 8)}, 0.5), r"\[6, 8\], not \[8, 6\]"),
    "twice": (lambda: mask_from_scores(network(), {"0": X[:8], "0.weight": X[:8]}, 0.5), r"0\.weight are given twice"),
    "complex": (lambda: mask_from_scores(network(), {"0": X[:8] * 1j}, 0.5), r"scores\.0: must be real"),
    "words": (lambda: mask_from_scores(network(), {"2": "high"}, 0.5), r"scores\.2: must be a tensor"),  # type: ignore[dict-item]
    "next level": (lambda: next_level(another(), network(), 0.5), "mask: belongs to another network: 0.weight is"),
    "no mask": (lambda: score("l1", network(), mask={"0.weight": X > 0}), "mask: must be a MaskSet"),  # type: ignore[arg-type]
    "hook": (
        lambda: MaskHook(torch.optim.SGD(network().parameters(), 0.1), network(), another()),
        "optimizer: has none",
    ),
    "applied": (lambda: another().apply(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))), r"1\.weight is \[2, 4\]"),
    "ceiling": (lambda: penalty(ceiling=-1), "ceiling: must be a number above 0"),
    "every": (lambda: penalty(every=2.5), r"every: must be a whole number from 1 \(got 2.5"),
    "stabilise": (lambda: penalty(stabilise="2"), "stabilise: must be a whole number from 0"),
    "kept": (lambda: penalty(kept=math.nan), "kept: must be a number, and finite"),
    "pick": (lambda: penalty(pick={"until": 0}), "pick.until: must be a number above 0"),
    "growing": (lambda: penalty(sparsity=None, mask=another()), "mask: belongs to another network"),
    "steps": (lambda: dynamics(steps="4"), "steps: must be a whole number from 1"),
    "start": (lambda: dynamics(start=-1), "start: must be a whole number from 0"),
    "moved": (lambda: dynamics(mask=another()), "mask: belongs to another network"),
    "both": (lambda: dynamics(**{"from": 2}), r"dynamics\.from: is given twice, as begin and as from"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_is_refused_in_one_line(what: str) -> None:
    call, told = WRONG[what]
    with pytest.raises(UserError, match=told) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_an_error_of_the_package_itself_stays_what_it_is() -> None:
    @calls.told_in_one_line
    def looked_up() -> int:
        return {"a": 1}["b"]

    # This file stands for another's code; the decorator's own errors are those of the package.
    with pytest.raises(UserError, match="KeyError: 'b'"):
        looked_up()
    with pytest.raises(TypeError, match="missing"):
        find_mask()  # type: ignore[call-arg]


def test_numbers_and_scores_of_other_types_give_the_same_mask() -> None:
    plain = find_mask(network(), "magnitude", 0.5)
    for same in (np.float32(0.5), Fraction(1, 2), torch.tensor(0.5)):
        assert find_mask(network(), "magnitude", same).sha256 == plain.sha256  # type: ignore[arg-type]
    given = torch.rand(8, 6, generator=torch.Generator().manual_seed(1))
    wanted = mask_from_scores(network(), {"0": given}, 0.5).sha256
    others: list[Any] = [given.numpy(), given.tolist(), given.double()]
    assert [mask_from_scores(network(), {"0": other}, 0.5).sha256 for other in others] == [wanted] * 3
