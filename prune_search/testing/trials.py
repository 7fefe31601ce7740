"""Small trials on the digits with one entry in them: whether they run, and what they leave behind."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from prune_search.recipe import axes
from prune_search.recipe.facts import DynamicsFacts, Facts
from prune_search.recipe.fields import Length
from prune_search.recipe.registry import Entry
from prune_search.recipe.rules import entry_of
from prune_search.recipe.space import read_space
from prune_search.recipe.step import Step
from prune_search.testing.checked import Checked
from prune_search.testing.entries import check_entry
from prune_search.training.segment import Segment
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial import phases
from prune_search.trial.result import Result
from prune_search.trial.rounds import rounds_of
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup, prepare

Blocks = dict[str, Any]
MAX_STEPS = 25
STEPS, EPOCH = 12, 9


@contextlib.contextmanager
def short_phases() -> Iterator[None]:
    """A phase at its paper's length is cut off: what is asked is whether it runs, and what it leaves."""

    def short(name: str, address: str, total: int, *rest: Any, place: str) -> Segment:
        segment = Segment(name, address, min(total, MAX_STEPS), *rest)
        segment.place = place
        return segment

    with mock.patch.object(phases, "Segment", short):
        yield


def _plain_granularity() -> str:
    entries = axes.GRANULARITIES.items()
    return next(name for name, entry in entries if not entry.facts.structured and entry.facts.fixed_sparsity is None)


def _plain_scope() -> str:
    # By name, since the order of registration is that in which files were first imported.
    return min(name for name, entry in axes.SCOPES.items() if entry.facts.even and not entry.facts.decides)


def _plain_criterion(granularity: str, keeps_all: bool = False) -> str:
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


def _shortened(entry: Entry[Facts, object], written: Any = None) -> Any:
    """The entry's value with its lengths cut to the trial's."""
    given = dict(written) if isinstance(written, dict) else {"name": entry.name}
    for key, option in entry.options.items():
        value = given.get(key, option.default)
        length = isinstance(option.field, Length) and isinstance(value, str)
        if length and Step.parse(value).resolve(STEPS, EPOCH) > STEPS:
            given[key] = "5it"
    return given if len(given) > 1 else entry.name


def _granularity_for(entry: Entry[Facts, object]) -> str:
    allowed = getattr(entry.facts, "granularities", None)
    return str(allowed[0]) if allowed else _plain_granularity()


def _sparsity_for(criterion: Any, scope: Any) -> Any:
    """A sparsity in a form that the criterion or the scope of a mask takes."""
    given = {"final": 0.5, "per_round": 0.5, "learned": "learned", "by": {"by": "scope"}, "layers": {"layers": 1}}
    forms = entry_of(axes.CRITERIA, criterion).facts.sparsity
    facts = entry_of(axes.SCOPES, scope).facts
    if facts.decides:
        return given["by"]
    return given[next((form for form in forms if form in facts.sparsity), forms[0])]


def _blocks(
    granularity: Any, criterion: Any = None, scope: Any = None, more: Blocks | None = None, **mask: Any
) -> Blocks:
    """The recipe of a small trial: its mask block, and with `more` other blocks than the plain ones."""
    entry = entry_of(axes.GRANULARITIES, granularity)
    scored = _plain_criterion(entry.name) if criterion is None else criterion
    compared = _plain_scope() if scope is None else scope
    sparsity = {"sparsity": _sparsity_for(scored, compared)} if entry.facts.fixed_sparsity is None else {}
    model: Any = entry.facts.default_model or {"name": "small-conv", "channels": [4, 8]}
    plain = {"at": "end", "criterion": scored, "granularity": granularity, "scope": compared, **sparsity}
    return {
        "task": {"model": model, "seed": 2},
        "train": {"steps": f"{STEPS}it"},
        "mask": {**plain, **mask},
        "weights": {"at": "end"},
        "retrain": {"steps": "6it", "clock": {"hold": 0.02}},
        **(more or {}),
    }


def _setup(raw: Blocks) -> TrialSetup:
    return prepare(read_space(raw, "a check").only_recipe(), torch.device("cpu"))


def _trial(one: Checked, raw: Blocks, storage: Path | None = None) -> Result:
    """The result of a trial, its masked weights exactly 0 and its counts those of its receipt."""
    with short_phases():
        result = run_trial(_setup(raw), storage)
    receipt = result.receipt
    # Where rows or layers compete for themselves, each is rounded for itself.
    criterion = result.recipe.mask.criterion
    within = criterion.entry(axes.CRITERIA).facts.competition(**criterion.options)
    each = {"row": [mask.shape[0] for mask in result.masks.values()], "layer": [1] * len(result.masks)}
    rows = sum(each.get(within, []))
    counts = f"in a small trial {receipt.units_kept} units are kept where {receipt.units_asked} were asked for"
    one.require(abs(receipt.units_kept - receipt.units_asked) <= rows / 2, counts)
    for layer in receipt.layers:
        if layer.fused_into:
            gone = layer.kept == 0 and layer.name not in result.tensors
            one.require(gone, f"after a small trial {layer.name} is said to be fused away, but still exists")
            continue
        mask, weight = result.masks[layer.name], result.tensors[layer.name]
        told = (int(mask.sum()), mask.numel()) == (layer.kept, layer.total)
        one.require(told, f"in a small trial the receipt of {layer.name} does not count its mask")
        zero = not bool((weight[~mask] != 0).any() or torch.signbit(weight[~mask]).any())
        one.require(zero, f"after a small trial removed weights of {layer.name} are not exactly 0")
    for key, tensor in result.tensors.items():
        one.require(torch.isfinite(tensor).all(), f"after a small trial {key} is not finite")
    return result


def run_with_criterion(one: Checked) -> None:
    """A small trial whose mask a criterion decides."""
    entry = axes.CRITERIA[one.name]
    nothing: Blocks = {"sparsity": 0} if entry.facts.keeps_all else {}
    result = _trial(one, _blocks(_granularity_for(entry), _shortened(entry, one.named.written), **nothing))
    text = f"in a small trial {result.receipt.reached:.0%} of the weights are removed"
    one.require((result.receipt.reached > 0) is not entry.facts.keeps_all, text)


def run_with_granularity(one: Checked) -> None:
    """A small trial whose mask has units of a granularity."""
    result = _trial(one, _blocks(one.named.written))
    one.require(result.receipt.reached > 0, "in a small trial nothing is removed")
    last = result.receipt.layers[-1]
    facts = axes.GRANULARITIES[one.name].facts
    fits = facts.fits(tuple(result.masks[last.name].shape), **one.named.options)
    text = f"it declares output_layer={facts.output_layer}, and of the output layer {last.units} units take part"
    # Units that are found in the network need not be of its last layer.
    one.require((last.units > 0) is (facts.output_layer and fits) or facts.find is not None, text)


def run_with_scope(one: Checked) -> None:
    """A small trial whose layers compete in a scope."""
    entry = axes.SCOPES[one.name]
    criterion: Any = _plain_criterion(_granularity_for(entry))
    if entry.facts.sparsity == ("learned",):
        learns = (other for other in axes.CRITERIA.values() if "learned" in other.facts.sparsity)
        criterion = _shortened(next(learns))
    scope = _shortened(entry, one.named.written)
    result = _trial(one, _blocks(_granularity_for(entry), scope=scope, criterion=criterion))
    # Without options a scope that decides the sparsity itself need not remove anything.
    one.require(result.receipt.reached > 0 or entry.facts.decides, "in a small trial nothing is removed")


def run_with_path(one: Checked) -> None:
    """A small trial that is scored in iterations along a path."""
    plain = _trial(one, _blocks(_plain_granularity())).receipt.units_kept
    # The criterion sees the unmasked weights, so that iterations lead where one step does.
    path = _trial(one, _blocks(_plain_granularity(), score={"iterations": 3, "path": one.named.written}))
    kept = path.receipt.units_kept
    one.require(kept == plain, f"in a small trial {kept} units are kept in three iterations, and {plain} in one")


def run_with_control(one: Checked) -> None:
    """A small trial with the control of its mask, and one with that of a mask that moves."""
    recipes = [functools.partial(_blocks, _plain_granularity())]
    if axes.CONTROLS[one.name].facts.with_dynamics:
        recipes.append(functools.partial(with_dynamics, axes.DYNAMICS[min(axes.DYNAMICS)]))
    for recipe in recipes:
        plain, other = _trial(one, recipe()), _trial(one, recipe(control=one.named.written))
        kept, wanted = other.receipt.units_kept, plain.receipt.units_kept
        one.require(kept == wanted, f"in a small trial it keeps {kept} units instead of {wanted}")
        one.require(other.masks.sha256 != plain.masks.sha256, "in a small trial it keeps the same units as the mask")


def check_transform(name: str, **options: object) -> None:
    """A transform changes the weights of a small trial, trains where it says so, and what it stored is taken up.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(axes.TRANSFORMS, name, options)
    entry = axes.TRANSFORMS[name]
    for place in ("transform", "prepare") if entry.facts.place == "both" else (entry.facts.place,):
        granularity, written = _granularity_for(entry), _shortened(entry, one.named.written)
        without = _trial(one, _blocks(granularity))
        if place == "prepare":
            raw = _blocks(granularity, more={"weights": {"at": "prepared"}}, prepare=written)
        else:
            raw = _blocks(granularity, more={"weights": {"at": "end", "transform": [written]}})
        result = _twice(one, raw)
        one.require(result.weights_sha256 != without.weights_sha256, f"as {place} it changes no weight")
        trained = result.steps[0] - without.steps[0]
        text = f"it declares trains={entry.facts.trains}, and as {place} it trains {trained} steps"
        one.require((trained > 0) is entry.facts.trains, text)


def _twice(one: Checked, raw: Blocks) -> Result:
    """A trial, run twice on one storage: the second takes up what the first has stored."""
    with tempfile.TemporaryDirectory(prefix="prune-search-") as folder:
        result, again = _trial(one, raw, Path(folder)), _trial(one, raw, Path(folder))
    one.require(again.weights_sha256 == result.weights_sha256, "running a trial again gives different weights")
    one.require(again.steps[0] == 0, f"a trial whose states are stored trains {again.steps[0]} steps again")
    return result


def with_dynamics(entry: Entry[DynamicsFacts, object], written: Any = None, **mask: Any) -> Blocks:
    """A recipe whose mask a dynamics moves."""
    granularity = _granularity_for(entry)
    scopes = entry.facts.scopes
    criterion = _plain_criterion(granularity, keeps_all=entry.facts.starts_from == "all")
    retrain = {"until": "end", "clock": "0it", "dynamics": _shortened(entry, written)}
    more = {"weights": {"at": "0it"}, "retrain": retrain}
    return _blocks(granularity, criterion, scopes[0] if scopes else None, more, at="0it", **mask)


def check_dynamics(name: str, **options: object) -> None:
    """A dynamics moves the mask of a small trial, and has the asked sparsity from the step that it says.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(axes.DYNAMICS, name, options)
    entry = axes.DYNAMICS[name]
    raw = with_dynamics(entry, one.named.written)
    result = _twice(one, raw)
    asked = result.receipt.asked
    one.require(asked == 0.5, f"a sparsity of 0.5 was asked for, and its receipt says {asked}")
    static = {key: value for key, value in raw["retrain"].items() if key != "dynamics"}
    mask = {**raw["mask"], "sparsity": 0 if entry.facts.starts_from == "all" else 0.5}
    start = _trial(one, {**raw, "mask": mask, "retrain": static})
    one.require(result.masks.sha256 != start.masks.sha256, "its final mask is the same as its initial one")
    _check_when_it_settles(one, raw)


def _check_when_it_settles(one: Checked, raw: Blocks) -> None:
    with short_phases():
        _, (item,) = rounds_of(_setup(raw), StateStore(None, Steps()))
        settled, total = item.settled(), item.retraining.total
        one.require(0 <= settled <= total, f"it says that it settles at step {settled} of {total}")
        kept = [item.masks_in(item.retraining.at(step).tensors) for step in range(total + 1)]
    asked = [masks.receipt().asked if masks.sparsity() else 0.0 for masks in kept]
    text = f"it says that it settles at step {settled}, and the sparsities from there on are {asked[settled:]}"
    one.require(set(asked[settled:]) == {0.5}, text)
    early = settled == 0 or asked[settled - 1] < 0.5
    one.require(early, f"it says that it settles at step {settled}, and has the asked sparsity before")
