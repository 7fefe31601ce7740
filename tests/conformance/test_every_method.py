"""Every criterion, granularity, scope, control, transform and dynamics runs inside a small trial on the digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from prune_search.recipe import axes
from prune_search.recipe.facts import DynamicsFacts
from prune_search.recipe.fields import Length, Reading, Value
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import AnyEntry, Entry
from prune_search.recipe.rules import entry_of
from prune_search.recipe.step import Step
from prune_search.training.segment import Segment
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial import rounds
from prune_search.trial.result import Result
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup

Blocks = dict[str, Any]
SetupOf = Callable[[Mapping[str, Any]], TrialSetup]
MAX_STEPS = 25
STEPS, EPOCH = 12, 9


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase at its paper's length is cut off: what is asked is whether it runs, and what it leaves."""

    def short(name: str, address: str, total: int, *rest: Any, place: str) -> Segment:
        segment = Segment(name, address, min(total, MAX_STEPS), *rest)
        segment.place = place
        return segment

    monkeypatch.setattr(rounds, "Segment", short)


PLAIN_GRANULARITY = next(
    name
    for name, entry in axes.GRANULARITIES.items()
    if not entry.facts.structured and entry.facts.fixed_sparsity is None
)

# By name, since the order of registration is that in which files were first imported.
PLAIN_SCOPE = min(name for name, entry in axes.SCOPES.items() if entry.facts.even and not entry.facts.decides)


def plain_criterion(granularity: str, keeps_all: bool = False) -> str:
    """Some criterion that goes with a granularity and neither trains nor sees data."""
    return next(
        name
        for name, entry in axes.CRITERIA.items()
        if entry.facts.keeps_all is keeps_all
        and not entry.facts.trains
        and not entry.facts.needs_data
        and entry.facts.kind == "static"
        and (entry.facts.granularities is None or granularity in entry.facts.granularities)
    )


def shortened(entry: AnyEntry) -> Any:
    """The entry's value with its lengths cut to the trial's."""
    short = {
        key: "5it"
        for key, option in entry.options.items()
        if isinstance(option.field, Length)
        and isinstance(option.default, str)
        and Step.parse(option.default).resolve(STEPS, EPOCH) > STEPS
    }
    return {"name": entry.name, **short} if short else entry.name


def granularity_for(entry: AnyEntry) -> str:
    allowed = getattr(entry.facts, "granularities", None)
    return str(allowed[0]) if allowed else PLAIN_GRANULARITY


def sparsity_for(mask: Blocks) -> Any:
    """A sparsity in a form that the mask's criterion or scope takes."""
    given = {"final": 0.5, "per_round": 0.5, "learned": "learned", "by": {"by": "scope"}, "layers": {"layers": 1}}
    forms = (*entry_of(axes.CRITERIA, mask["criterion"]).facts.sparsity,)
    scope = entry_of(axes.SCOPES, mask["scope"]).facts.sparsity
    if entry_of(axes.SCOPES, mask["scope"]).facts.decides:
        return given["by"]
    return given[next((form for form in forms if form in scope), forms[0])]


def _written(name: str) -> Any:
    """A granularity with its defaults, as a file that names it has it."""
    return Value(axes.GRANULARITIES).read(name, "", Reading())


def blocks(granularity: str, **mask: Any) -> Blocks:
    whole: Blocks = {"at": "end", "criterion": plain_criterion(granularity), "granularity": granularity}
    whole = {**whole, "scope": PLAIN_SCOPE, **mask}
    if axes.GRANULARITIES[granularity].facts.fixed_sparsity is None:
        whole["sparsity"] = sparsity_for(whole)
    return {
        "task": {"model": {"name": "small-conv", "channels": [4, 8]}, "seed": 2},
        "train": {"steps": f"{STEPS}it"},
        "mask": whole,
        "weights": {"at": "end"},
        "retrain": {"steps": "6it", "clock": {"hold": 0.02}},
    }


def checked(setup_of: SetupOf, raw: Blocks, storage: Path | None = None) -> Result:
    """The result of a trial, its masked weights exactly 0 and its counts those of its receipt."""
    setup = setup_of(raw)
    result = run_trial(setup, storage)
    receipt = result.receipt
    # Where rows compete for themselves, each is rounded for itself.
    by_row = entry_of(axes.CRITERIA, raw["mask"]["criterion"]).facts.compared == "row"
    rows = sum(mask.shape[0] for mask in result.masks.values()) if by_row else 0
    assert abs(receipt.units_kept - receipt.units_asked) <= rows / 2
    for layer in receipt.layers:
        mask, weight = result.masks[layer.name], result.tensors[layer.name]
        assert (int(mask.sum()), mask.numel()) == (layer.kept, layer.total)
        assert bool((weight[~mask] == 0).all())
        assert not bool(torch.signbit(weight[~mask]).any())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in result.tensors.values())
    return result


@pytest.mark.parametrize("name", axes.CRITERIA)
def test_every_criterion(setup_of: SetupOf, name: str) -> None:
    entry = axes.CRITERIA[name]
    raw = blocks(granularity_for(entry), criterion=shortened(entry))
    if entry.facts.keeps_all:
        raw["mask"]["sparsity"] = 0
    result = checked(setup_of, raw)
    assert (result.receipt.reached > 0) is not entry.facts.keeps_all


@pytest.mark.parametrize("name", axes.GRANULARITIES)
def test_every_granularity(setup_of: SetupOf, name: str) -> None:
    result = checked(setup_of, blocks(name))
    assert result.receipt.reached > 0
    last = result.receipt.layers[-1]
    facts = axes.GRANULARITIES[name].facts
    fits = facts.fits(tuple(result.masks[last.name].shape), **Named.of(axes.GRANULARITIES, _written(name)).options)
    assert (last.units > 0) is (facts.output_layer and fits)


@pytest.mark.parametrize("name", axes.SCOPES)
def test_every_scope(setup_of: SetupOf, name: str) -> None:
    entry = axes.SCOPES[name]
    criterion: Any = plain_criterion(granularity_for(entry))
    if entry.facts.sparsity == ("learned",):
        learns = (other for other in axes.CRITERIA.values() if "learned" in other.facts.sparsity)
        criterion = shortened(next(learns))
    result = checked(setup_of, blocks(granularity_for(entry), scope=shortened(entry), criterion=criterion))
    # Without options a scope that decides the sparsity itself need not remove anything.
    assert result.receipt.reached > 0 or entry.facts.decides


@pytest.mark.parametrize("name", axes.PATHS)
def test_every_path(setup_of: SetupOf, name: str) -> None:
    plain = checked(setup_of, blocks(PLAIN_GRANULARITY))
    score = {"iterations": 3, "path": name}
    # The criterion sees the unmasked weights, so that iterations lead where one step does.
    assert checked(setup_of, blocks(PLAIN_GRANULARITY, score=score)).receipt.units_kept == plain.receipt.units_kept


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("name", axes.CONTROLS)
def test_every_control(setup_of: SetupOf, name: str, moved: bool) -> None:
    entry = axes.CONTROLS[name]
    if moved and not entry.facts.with_dynamics:
        pytest.skip("it declares that it does not go with dynamics")
    raw = blocks(PLAIN_GRANULARITY)
    if moved:
        raw = with_dynamics(axes.DYNAMICS[min(axes.DYNAMICS)])
    plain = checked(setup_of, raw)
    raw["mask"]["control"] = name
    other = checked(setup_of, raw)
    assert other.receipt.units_kept == plain.receipt.units_kept
    assert other.masks.sha256 != plain.masks.sha256


TRANSFORMS = [
    (name, place)
    for name, entry in axes.TRANSFORMS.items()
    for place in (("transform", "prepare") if entry.facts.place == "both" else (entry.facts.place,))
]


@pytest.mark.parametrize(("name", "place"), TRANSFORMS)
def test_every_transform(setup_of: SetupOf, tmp_path: Path, name: str, place: str) -> None:
    entry = axes.TRANSFORMS[name]
    raw = blocks(granularity_for(entry))
    without = checked(setup_of, raw)
    written = shortened(entry)
    if place == "prepare":
        raw["mask"]["prepare"] = written
        raw["weights"]["at"] = "prepared"
    else:
        raw["weights"]["transform"] = [written]
    result = checked(setup_of, raw, tmp_path)
    assert result.weights_sha256 != without.weights_sha256
    assert (result.steps[0] > without.steps[0]) is entry.facts.trains
    again = checked(setup_of, raw, tmp_path)
    assert (again.weights_sha256, again.steps[0]) == (result.weights_sha256, 0)


def with_dynamics(entry: Entry[DynamicsFacts, object]) -> Blocks:
    granularity = granularity_for(entry)
    scopes = entry.facts.scopes
    raw = blocks(
        granularity,
        at="0it",
        criterion=plain_criterion(granularity, keeps_all=entry.facts.starts_from == "all"),
        scope=scopes[0] if scopes else PLAIN_SCOPE,
    )
    raw["weights"]["at"] = "0it"
    raw["retrain"] = {"until": "end", "clock": "0it", "dynamics": shortened(entry)}
    return raw


@pytest.mark.parametrize("name", axes.DYNAMICS)
def test_every_dynamics(setup_of: SetupOf, tmp_path: Path, name: str) -> None:
    entry = axes.DYNAMICS[name]
    raw = with_dynamics(entry)
    result = checked(setup_of, raw, tmp_path)
    assert result.receipt.asked == 0.5
    static = {key: value for key, value in raw["retrain"].items() if key != "dynamics"}
    mask = {**raw["mask"], "sparsity": 0 if entry.facts.starts_from == "all" else 0.5}
    start = checked(setup_of, {**raw, "mask": mask, "retrain": static})
    assert result.masks.sha256 != start.masks.sha256
    again = checked(setup_of, raw, tmp_path)
    assert (again.weights_sha256, again.steps[0]) == (result.weights_sha256, 0)


@pytest.mark.parametrize("name", axes.DYNAMICS)
def test_every_dynamics_has_the_asked_sparsity_from_the_step_that_it_says(setup_of: SetupOf, name: str) -> None:
    _, (item,) = rounds.rounds_of(setup_of(with_dynamics(axes.DYNAMICS[name])), StateStore(None, Steps()))
    settled, total = item.settled(), item.retraining.total
    assert 0 <= settled <= total
    kept = [item.masks_in(item.retraining.at(step).tensors) for step in range(total + 1)]
    asked = [masks.receipt().asked if masks.sparsity() else 0.0 for masks in kept]
    assert set(asked[settled:]) == {0.5}
    assert settled == 0 or asked[settled - 1] < 0.5
