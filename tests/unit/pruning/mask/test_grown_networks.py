"""What masks promise, on networks that are grown at random of some twenty kinds of blocks."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from grown_networks import CLASSES, KINDS, PLACES, WIDTH, Grown, cut_by
from torch import Tensor

from prune_search import UserError, find_mask
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.structures import tensors_in

# Every kind comes first in two of them; a few in the default selection.
SEEDS = [pytest.param(seed, marks=() if seed % 8 == 3 else pytest.mark.slow) for seed in range(2 * len(KINDS))]
X = torch.randn(6, PLACES, WIDTH, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % CLASSES
pytestmark = pytest.mark.filterwarnings("ignore:.*are not pruned")


def outputs(model: torch.nn.Module, tensors: dict[str, Tensor] | None = None) -> list[Tensor]:
    with torch.no_grad():
        return tensors_in(torch.func.functional_call(model, tensors or {}, (X,)))


@pytest.mark.parametrize("seed", SEEDS)
def test_exactly_as_many_weights_are_kept_as_asked_and_all_that_can_be_pruned_counts(seed: int) -> None:
    model = Grown(seed).eval()
    weights = prunable_weights(model)
    assert {id(p) for p in model.parameters() if p.dim() > 1} == {id(weight) for weight in weights.values()}
    mask = find_mask(model, "magnitude", 0.5, batches=[(X, Y)])
    total = sum(weight.numel() for weight in weights.values())
    assert sum(mask.kept.values()) == int(total / 2 + 0.5)
    wanda = find_mask(model, "wanda", 0.5, batches=[(X, Y)], loss=lambda out, _: tensors_in(out)[0].sum())
    assert sum(wanda.kept.values()) > 0


@pytest.mark.parametrize("granularity", ["filter", "channel"])
@pytest.mark.parametrize("seed", SEEDS)
def test_outputs_are_whole_and_what_is_left_out_has_a_reason(seed: int, granularity: str) -> None:
    model = Grown(seed).eval()
    try:
        mask = find_mask(model, "l1", 0.5, "uniform", granularity, batches=[(X, Y)])
    except UserError as error:
        said = str(error)
        assert any(part in said for part in ("cannot be removed", "no set of channels", "cannot trace"))
        return
    for place in range(len(model.heads)):
        rows = mask[f"heads.{place}.weight"].any(1)
        assert bool(rows.all()), (model.kinds, model.end)
    named = {one.name for one in mask.receipt().left_out}
    assert {f"heads.{place}.weight" for place in range(len(model.heads))} <= named
    whole = {name for name, part in mask.items() if bool(part.all()) and name not in mask.units}
    taken = {name for name in whole if name in named}
    assert granularity == "channel" or taken == whole
    if granularity == "channel":
        _outputs_stay(model, mask)


def _outputs_stay(model: Grown, mask: object) -> None:
    """The cut network has the masked one's outputs: its code with other widths, or else its graph."""
    from prune_search.compact.from_graph import smaller
    from prune_search.pruning.mask.mask_set import MaskSet

    assert isinstance(mask, MaskSet)
    mask.apply(model)
    before = outputs(model)
    grouped: dict[Any, int] = {}
    for name, module in model.named_modules():
        if (groups := getattr(module, "groups", 1)) > 1:
            grouped[module] = groups
            module.groups = int(mask[f"{name}.weight"].flatten(1).any(1).sum())
    try:
        if _alike(before, outputs(model, cut_by(model, mask))):
            return
    except (RuntimeError, ValueError, AssertionError) as error:
        assert any(word in str(error) for word in ("shape", "size", "expected", "dimension", "dim")), model.kinds  # noqa: PT017
    # Its code, or a recurrent layer, says how wide things are: the graph has the widths that stay.
    for module, groups in grouped.items():
        module.groups = groups
    # Some of them turn the batch into a number, which a captured graph keeps: two.
    two = [output[:2] for output in before]
    assert _alike(two, tensors_in(smaller(model, X).network(X[:2]))), (model.kinds, model.end)


def _alike(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(
        torch.allclose(one, other, atol=1e-5 * float(one.abs().max())) for one, other in zip(first, second, strict=True)
    )


def test_what_is_left_out_is_warned_of_with_its_share() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(20, 8), torch.nn.Flatten(), torch.nn.Linear(48, 4))
    with pytest.warns(UserWarning, match=r"44\.9% of the parameters are not pruned.*0\.weight"):
        mask = find_mask(model, "magnitude", 0.5)
    receipt = mask.receipt()
    assert receipt.reached == 0.5
    assert receipt.sparsity_of_all_parameters == pytest.approx(96 / (160 + 192 + 4))
    assert [(one.name, one.size) for one in receipt.left_out] == [("0.weight", 160)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_mask(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3)), "magnitude", 0.5)
