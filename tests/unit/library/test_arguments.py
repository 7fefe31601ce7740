"""How the library's functions read their arguments: as a recipe would, and with its messages."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import torch
from torch import nn

import prune_search
from prune_search.library import arguments
from prune_search.recipe import axes
from prune_search.recipe.problems import UserError


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def rule(criterion: str = "magnitude", scope: Any = "global", granularity: Any = "weight") -> Any:
    named = arguments.value(axes.CRITERIA, criterion, "criterion")
    return arguments.rule_of(named, scope, granularity, {"loss": "cross-entropy", "mode": None})


def test_the_name_of_a_method_is_a_criterion_and_how_often_it_is_scored() -> None:
    criterion, schedule, nested = arguments.method("force")
    assert criterion == axes.PRESETS["force"].make()["mask"]["criterion"]
    assert schedule is not None
    assert schedule["iterations"] > 1
    assert nested is False
    assert arguments.method("iterative-snip")[2] is True
    assert arguments.method("magnitude") == ("magnitude", None, True)


def test_a_schedule_is_a_name_or_a_name_with_iterations() -> None:
    assert arguments.schedule_of("one-shot") == ("one-shot", 1)
    assert arguments.schedule_of("exponential") == ("exponential", 100)
    assert arguments.schedule_of({"name": "linear", "iterations": 5}) == ("linear", 5)


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("expnential", "schedule"),
        ({"name": "linear", "iterations": True}, "schedule.iterations"),
        ({"name": "linear", "iterations": 0}, "schedule.iterations"),
        ({"name": "linear", "rounds": 3}, "schedule"),
        ({}, "schedule"),
    ],
)
def test_a_wrong_schedule_is_said_of_its_part(written: Any, path: str) -> None:
    with pytest.raises(UserError) as refused:
        arguments.schedule_of(written)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_parameters_are_named_by_weight_or_layer_and_the_rest_is_excluded() -> None:
    model = network()
    assert list(arguments.weights_of(model, None)) == ["0.weight", "2.weight"]
    assert list(arguments.weights_of(model, ["2"])) == ["2.weight"]
    assert arguments.only(rule(), model, ["2.weight"]).scope.options["exclude"] == ["0.weight"]
    assert arguments.only(rule(), model, None) == rule()
    with pytest.raises(UserError, match="parameters"):
        arguments.weights_of(model, ["7"])


def test_the_share_follows_from_the_sparsity_or_a_granularity_that_fixes_it() -> None:
    model = network()
    data = arguments.evidence_of(model, None, None, 0)
    assert arguments.share_of(model, rule(), 0.9, data) == Decimal("0.1")
    half = rule(granularity={"name": "n-of-m", "n": 2, "m": 4})
    assert arguments.share_of(model, half, None, data) == Decimal("0.5")
    for wrong, message in ((None, "is missing"), (1.5, "from 0 to 1")):
        with pytest.raises(UserError, match=message):
            arguments.share_of(model, rule(), wrong, data)


def test_a_criterion_that_needs_data_is_refused_without_and_a_function_gives_each_iteration_its_own() -> None:
    model = network()
    snip = arguments.value(axes.CRITERIA, "snip", "criterion")
    with pytest.raises(UserError, match="batches"):
        arguments.needs_batches(snip, arguments.evidence_of(model, None, None, 0))
    labels = torch.zeros(2, dtype=torch.long)
    data = arguments.evidence_of(model, lambda iteration: [(torch.full((2, 4), float(iteration)), labels)], None, 0)
    arguments.needs_batches(snip, data)
    assert float(data.batches(3)[0][0].mean()) == 3.0
    assert data.output_layer == "2.weight"


def test_arguments_of_a_wrong_type_are_told_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    batches = [(torch.randn(3, 4), torch.tensor([0, 1, 0]))]
    wrong: Any = object()
    mask = prune_search.find_mask(model, sparsity=0.5)
    calls: dict[str, list[Callable[[], object]]] = {
        "schedule": [lambda: prune_search.find_mask(model, sparsity=0.5, schedule=wrong)],
        "nested": [lambda: prune_search.find_mask(model, sparsity=0.5, nested=wrong)],
        "parameters": [
            lambda: prune_search.find_mask(model, sparsity=0.5, parameters=wrong),
            lambda: prune_search.score("magnitude", model, parameters=wrong),
        ],
        "mode": [
            lambda: prune_search.next_level(mask, model, 0.2, mode=wrong),
            lambda: prune_search.group_scores(model, "l1", torch.randn(1, 4), mode=wrong),
        ],
        "over": [lambda: prune_search.group_scores(model, "l1", torch.randn(1, 4), over=wrong)],
        "scope": [lambda: prune_search.prune_blocks(model, "magnitude", 0.5, scope=wrong, batches=batches)],
        "device": [lambda: prune_search.prune_blocks(model, "magnitude", 0.5, batches=batches, device=wrong)],
        "criterion": [lambda: prune_search.prune_blocks(model, wrong, 0.5, batches=batches, order="x")],
    }
    for name, given in calls.items():
        for call in given:
            with pytest.raises(UserError, match=f"^{name}: "):
                call()
    with pytest.raises(UserError, match="device: 'nowhere' is no device"):
        prune_search.prune_blocks(model, "magnitude", 0.5, batches=batches, device="nowhere")
