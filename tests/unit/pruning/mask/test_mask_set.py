"""Masks: exactly k units, ties by order, applied as +0.0, with a digest and a receipt that can be relied on."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet, Pool, ScoreError, joined, keep_all, rounded, select
from prune_search.recipe.problems import UserError

FEW_VALUES = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, 0.5, 2.0, math.inf])


def everything(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.ones(score.numel(), dtype=torch.bool) for name, score in scores.items()}


@given(
    st.lists(st.tuples(FEW_VALUES, st.booleans()), min_size=1, max_size=40),
    st.integers(0, 45),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_exactly_the_k_highest_candidates_are_kept_and_of_equals_the_first(
    units: list[tuple[float, bool]], kept: int, dtype: torch.dtype
) -> None:
    cut = len(units) // 2
    scores = torch.tensor([score for score, _ in units], dtype=dtype)
    allowed = torch.tensor([candidate for _, candidate in units])
    found = select(
        {"b": scores[:cut], "a": scores[cut:]}, {"b": allowed[:cut], "a": allowed[cut:]}, [Pool(("b", "a"), kept)]
    )
    ranked = sorted((i for i, (_, candidate) in enumerate(units) if candidate), key=lambda i: (-units[i][0], i))
    assert torch.cat([found["b"], found["a"]]).nonzero().flatten().tolist() == sorted(ranked[:kept])


def test_parts_are_joined_and_copied_only_where_they_lie_apart() -> None:
    whole = torch.arange(12.0)
    one, two, three = torch.split(whole, [3, 4, 5])
    near = joined([two, three])
    assert near.tolist() == whole[3:].tolist()
    assert near.data_ptr() == two.data_ptr()
    for apart in ([one, three], [two, one], [one, two.double()], [whole[::2], whole[6:]], [one, whole[3:].clone()]):
        found = joined(apart)
        assert found.tolist() == [value for part in apart for value in part.tolist()]
        assert found.data_ptr() != apart[0].data_ptr()
    assert joined([one]).tolist() == [0, 1, 2]


def test_each_pool_keeps_its_own_count() -> None:
    scores = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([10.0, 30.0, 20.0])}
    found = select(scores, everything(scores), [Pool(("a",), 1), Pool(("b",), 2)])
    assert [found["a"].tolist(), found["b"].tolist()] == [[False, False, True], [False, True, True]]


def test_all_equal_scores_keep_the_first_units_of_the_first_layers() -> None:
    scores = {"a": torch.ones(300), "b": torch.ones(300)}
    found = select(scores, everything(scores), [Pool(("a", "b"), 301)])
    assert bool(found["a"].all())
    assert found["b"].nonzero().flatten().tolist() == [0]


def test_a_score_that_is_no_number_is_refused_by_name_and_matters_only_for_candidates() -> None:
    scores = {"first": torch.ones(2), "second": torch.tensor([1.0, math.nan, 2.0])}
    with pytest.raises(ScoreError, match="second"):
        select(scores, everything(scores), [Pool(("first",), 1), Pool(("second",), 1)])
    candidates = {**everything(scores), "second": torch.tensor([True, False, True])}
    assert select(scores, candidates, [Pool(("first", "second"), 2)])["second"].tolist() == [False, False, True]


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))


def some_masks() -> MaskSet:
    first = torch.tensor([[True, False, True], [False, True, False]])
    second = torch.ones(2, 2, dtype=torch.bool)
    return MaskSet({"0.weight": first, "2.weight": second}, {"0.weight": (6, 3)}, (3, 0.5))


def test_masked_weights_become_plus_zero_whatever_they_were_and_nothing_else_changes() -> None:
    model = two_layers()
    weight, before = model.get_parameter("0.weight"), {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        weight[0, 1], weight[1, 0], weight[1, 2] = -3.0, math.nan, -0.0
    some_masks().apply(model)
    dropped = weight[~some_masks()["0.weight"]]
    assert torch.equal(dropped, torch.zeros(3))
    assert not bool(torch.signbit(dropped).any())
    assert torch.equal(weight[some_masks()["0.weight"]], before["0.weight"][some_masks()["0.weight"]])
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before if key != "0.weight")
    assert weight.requires_grad


def test_a_mask_of_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError, match=r"9\.weight"):
        MaskSet({"9.weight": torch.ones(2, 2, dtype=torch.bool)}).apply(two_layers())


def test_the_digest_is_of_the_bits_and_names_alone_and_never_changes() -> None:
    masks = some_masks()
    # Bits 101010 and 1111, the first in the lowest place.
    by_hand = (
        b"masks 1\n" + b"8 0.weight bits [2x3]\n" + bytes([0b010101]) + b"8 2.weight bits [2x2]\n" + bytes([0b1111])
    )
    assert masks.sha256 == hashlib.sha256(by_hand).hexdigest()
    again = MaskSet({name: masks[name].clone() for name in reversed(list(masks))})
    assert again.sha256 == masks.sha256
    one_bit = masks["0.weight"].clone()
    one_bit[0, 0] = False
    others: list[dict[str, Any]] = [
        {**masks.masks, "0.weight": one_bit},
        {**masks.masks, "0.weight": masks["0.weight"].reshape(3, 2)},
        {"1.weight": masks["0.weight"], "2.weight": masks["2.weight"]},
    ]
    assert len({masks.sha256, *(MaskSet(other).sha256 for other in others)}) == 4


def test_the_receipt_says_asked_and_reached_per_layer_and_in_total() -> None:
    receipt = some_masks().receipt()
    assert (receipt.asked, receipt.units_asked, receipt.units_kept, receipt.collapsed) == (0.5, 3, 3, 0)
    assert receipt.reached == 1 - 7 / 10  # the layer that takes no part counts as kept
    assert [(x.name, x.total, x.kept, x.units, x.units_kept) for x in receipt.layers] == [
        ("0.weight", 6, 3, 6, 3),
        ("2.weight", 4, 4, 0, 0),
    ]
    data = receipt.as_data()
    assert data["layers"][0] == {"name": "0.weight", "total": 6, "kept": 3, "units": 6, "units_kept": 3}
    assert data["collapsed"] == 0


def test_a_layer_with_nothing_left_counts_as_collapsed() -> None:
    masks = MaskSet({"a": torch.zeros(4, dtype=torch.bool), "b": torch.ones(4, dtype=torch.bool)}, {"a": (4, 0)})
    assert masks.receipt().collapsed == 1
    assert masks.sparsity() == 0.5


def test_a_mask_that_keeps_everything_has_sparsity_zero() -> None:
    masks = keep_all({name: p for name, p in two_layers().named_parameters() if name.endswith("weight")})
    assert masks.sparsity() == masks.receipt().reached == 0.0
    assert [tuple(mask.shape) for mask in masks.values()] == [(2, 3), (2, 2)]


@pytest.mark.parametrize("levels", [0, 7])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.96])
def test_the_highest_of_many_scores_are_those_of_a_stable_sort(levels: int, share: float) -> None:
    """So many that the border is looked for among a sample; with few levels nearly all scores are tied."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(40_000, generator=draw) ** 8
    if levels:
        scores = (scores * levels).round()
    allowed = torch.rand(40_000, generator=draw) < 0.9
    kept = int(share * int(allowed.sum()))
    found = select({"a": scores}, {"a": allowed}, [Pool(("a",), kept)])["a"]
    order = torch.sort(scores.masked_fill(~allowed, -1.0), descending=True, stable=True).indices[:kept]
    assert torch.equal(torch.nonzero(found).squeeze(1), order.sort().values)


def test_scores_of_half_precision_and_infinite_scores_are_in_order() -> None:
    scores = torch.tensor([1.0, -torch.inf, torch.inf, 2.0, 1.0], dtype=torch.bfloat16)
    found = select({"a": scores}, {"a": torch.ones(5, dtype=torch.bool)}, [Pool(("a",), 3)])["a"]
    assert found.tolist() == [True, False, True, True, False]


@pytest.mark.parametrize(("kept", "of", "may", "expected"), [(13, 64, 64, 16), (11, 64, 64, 8), (3, 64, 64, 8)])
def test_counts_are_rounded_to_the_nearest_multiple(kept: int, of: int, may: int, expected: int) -> None:
    assert int(in_multiples(kept, of, may).sum()) == expected


@pytest.mark.parametrize(("kept", "may", "expected"), [(30, 31, 24), (5, 5, 5), (12, 12, 8)])
def test_no_more_is_kept_than_may_be(kept: int, may: int, expected: int) -> None:
    assert int(in_multiples(kept, 64, may).sum()) == expected


def in_multiples(kept: int, of: int, may: int) -> Tensor:
    scores = {"a": torch.arange(of, 0, -1).float()}
    found = rounded({"a": torch.arange(of) < kept}, scores, {"a": torch.arange(of) < may}, 8)["a"]
    # The highest-scored ones, which are the first here.
    assert torch.equal(found, torch.arange(of) < int(found.sum()))
    return found


def test_a_network_that_a_mask_does_not_fit_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    none = torch.zeros(4, 3, dtype=torch.bool)
    with pytest.raises(UserError) as told:
        MaskSet({"0.weight": none, "0.bias": torch.zeros(3, dtype=torch.bool), "1.weight": none}).apply(model)
    assert [str(problem) for problem in told.value.problems] == [
        "model: 0.bias is [3] in the mask and [4] in the network",
        "model: 1.weight is [4, 3] in the mask and [2, 4] in the network",
    ]
    with pytest.raises(KeyError, match=r"2\.weight"):
        MaskSet({"0.weight": none, "2.weight": none}).apply(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
