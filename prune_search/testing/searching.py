"""Checks of the parts of a search, without training: samplers, schedulers, surfaces, pictures and presets."""

from __future__ import annotations

import atexit
import copy
import functools
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prune_search.api.compare import comparison
from prune_search.api.definition import define
from prune_search.api.where import Where
from prune_search.ledger.records import SEARCH_FILE, SearchRecords, read_search, search_folder
from prune_search.recipe.axes import PICTURES, PRESETS, SAMPLERS, SCHEDULERS, SURFACES
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.recipe import Recipe, canonical_json
from prune_search.recipe.space import Space, find, read_space
from prune_search.report.figure_data import FigureData, hang
from prune_search.search.next_trial import NextTrial
from prune_search.search.proposer import check_sampler as problems_of_sampler
from prune_search.search.schedulers import make_stopping_rule
from prune_search.simulation.search import SimulatedRun, known_to
from prune_search.simulation.surface import DEFAULT, Simulation
from prune_search.storage.files import put_file
from prune_search.testing.checked import Checked
from prune_search.testing.entries import check_entry

EPOCH = 10
SHARED: Mapping[str, Any] = {
    "train": {
        "steps": "3ep",
        "optimizer": {"name": "sgd", "lr": {"hole": "loguniform", "low": 0.01, "high": 0.5}},
    },
    "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.95}},
}
ONE_PARADIGM: Mapping[str, Any] = {"preset": "snip", **SHARED}
SEVERAL: Mapping[str, Any] = {
    **SHARED,
    "any": [
        {"preset": "snip"},
        {"preset": "lottery-ticket", "rounds": {"hole": "int", "low": 2, "high": 4}},
        {"preset": "random"},
    ],
}
ACCURACY, SPARSITY = "maximize val/accuracy", "maximize sparsity"


def simulated(raw: Mapping[str, Any], surface: Any, folder: Path, run: bool = True) -> SearchRecords:
    """The records of a simulated search.

    Args:
        raw: its space, with a search block.
        surface: that says how accurate its networks are.
        folder: a storage of its own.
        run: whether it is run to its end; else no trial has begun yet.
    """
    return _run(_read(raw), surface, folder, run)


def _read(raw: Mapping[str, Any]) -> Space:
    return read_space(copy.deepcopy(dict(raw)), "a check")


def _run(space: Space, surface: Any, folder: Path, run: bool = True) -> SearchRecords:
    simulation = Simulation.of(surface)
    home = search_folder(folder, "check")
    home.mkdir(parents=True)
    definition = define(space, home, Where(storage=folder), None, {}, simulation)
    put_file(home / SEARCH_FILE, (canonical_json(definition) + "\n").encode())
    if run:
        next_trial = NextTrial.open(home, space, known_to(simulation), lambda: False)
        SimulatedRun(next_trial, simulation, lambda: False, lambda records, trial: None).run()
    return read_search(home)


def _course(space: Space, surface: Any = DEFAULT) -> list[Any]:
    """What was proposed in a simulated search, how it ended and what was found."""
    with tempfile.TemporaryDirectory(prefix="prune-search-") as folder:
        records = _run(space, surface, Path(folder))
        return [
            (trial.id, trial.recipe, trial.status, dict(trial.metrics), [one.data["metrics"] for one in trial.measured])
            for trial in records.trials.values()
        ]


def _searched(space: Mapping[str, Any], **block: Any) -> dict[str, Any]:
    return {
        **space,
        "search": {
            "sampler": "tpe",
            "concurrency": 2,
            "reproducible": True,
            "seed": 5,
            "objectives": [ACCURACY],
            **block,
        },
    }


def check_sampler(name: str, trials: int = 12, **options: object) -> None:
    """A sampler proposes as many trials as are asked for, and the same ones in the same search.

    Args:
        name: of the sampler.
        trials: in each of the searches; more than it draws at random at the beginning.
        options: that it is checked with.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(SAMPLERS, name, options)
    for objectives in ([ACCURACY], [ACCURACY, SPARSITY]):
        block = {"trials": trials, "sampler": one.named.written, "objectives": objectives}
        # A sampler says itself which spaces it does not take: such a search is refused before it begins.
        spaces = (_read(_searched(raw, **block)) for raw in (SEVERAL, ONE_PARADIGM))
        space = next((space for space in spaces if not problems_of_sampler(space)), None)
        one.require(space is not None, f"it accepts no space with {' and '.join(objectives)}")
        if space is not None:
            _check_proposals(one, space, trials)


def _check_proposals(one: Checked, space: Space, trials: int) -> None:
    first = _course(space)
    proposed = [trial for trial in first if trial[0].isdigit()]
    one.require(proposed, "it proposes no trial")
    one.require(len(proposed) <= trials, f"it proposes {len(proposed)} trials where {trials} were requested")
    one.require(_course(space) == first, "the same search runs differently the second time")
    different = len({canonical_json(recipe) for _, recipe, *_ in proposed})
    one.require(different > 1, f"its {len(proposed)} proposals are all the same")


def check_scheduler(name: str, **options: object) -> None:
    """A scheduler measures within the training, lets a trial alone go on, and decides alike in the same search.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(SCHEDULERS, name, options)
    facts = SCHEDULERS[name].facts
    rule = make_stopping_rule(one.named.written, EPOCH)
    for total in (1, 25, 100):
        steps = list(rule.measure_at(total))
        inside = steps == sorted(steps) and all(0 < step < total for step in steps)
        one.require(inside, f"for a training of {total} steps, it wants to measure at {steps}")
    share = facts.keeps(**one.named.options)
    one.require(0 < share <= 1, f"it says that it keeps {share} of the trials")
    alone = _read(_searched(SEVERAL, trials=1, scheduler=one.named.written, controls=False))
    statuses = [status for _, _, status, *_ in _course(alone)]
    one.require(not {"stopped", "paused"} & set(statuses), "it stops the only trial of a search")
    objectives = [ACCURACY, SPARSITY] if facts.several_objectives else [ACCURACY]
    space = _read(_searched(SEVERAL, trials=10, scheduler=one.named.written, objectives=objectives))
    one.require(_course(space) == _course(space), "the same search runs differently the second time")


def check_surface(name: str, **options: object) -> None:
    """A surface is a pure function: the same search takes the same course on it.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(SURFACES, name, options)
    written = one.named.written
    digests = {Simulation.of(written).digest for _ in range(2)}
    one.require(len(digests) == 1, "its digest differs when it is created twice")
    space = _read(_searched(SEVERAL, trials=6))
    first = _course(space, written)
    one.require(first == _course(space, written), "the same search runs differently the second time")
    for _, _, status, metrics, _ in first:
        accuracy = metrics.get("val/accuracy", 0.0)
        one.require(status != "completed" or 0 <= accuracy <= 1, f"an accuracy of it is {accuracy}")


def check_picture(name: str, **options: object) -> None:
    """A picture is drawn of a search, the same file each time, and nothing is drawn of a search without trials.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(PICTURES, name, options)
    whole, empty = (_shown(records) for records in _to_be_shown())
    before = json.dumps(whole.data, sort_keys=True, default=str)
    first = hang(whole, [name])
    one.require(hang(whole, [name]) == first, "it draws a different file the second time")
    left = json.dumps(whole.data, sort_keys=True, default=str) == before
    one.require(left, "it changes its input, the comparison")
    drawn = all(image.startswith(b"<?xml") for image in first.values())
    one.require(drawn, "it does not draw an SVG file")
    nothing = not hang(empty, [name])
    one.require(nothing, "it draws something for a search without trials: return None instead")


@functools.cache
def _to_be_shown() -> tuple[SearchRecords, SearchRecords]:
    """A search, and one without trials: the same for every picture, so that they stay until the process ends."""
    space = _read(_searched(SEVERAL, trials=8, objectives=[ACCURACY, SPARSITY]))
    folder = tempfile.mkdtemp(prefix="prune-search-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return _run(space, DEFAULT, Path(folder, "whole")), _run(space, DEFAULT, Path(folder, "empty"), run=False)


def _shown(records: SearchRecords) -> FigureData:
    return FigureData((records,), comparison([records]))


def check_preset(name: str, **options: object) -> None:
    """A preset is a whole recipe, is the paradigm that it is named after, and says whose it is.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(PRESETS, name, options)
    entry = PRESETS[name]
    recipe = Recipe.read(entry.make())
    blocks = {key: value for key, value in recipe.canonical.items() if key != "schema"}
    one.require(Recipe.read(copy.deepcopy(blocks)).canonical == recipe.canonical, "its canonical form reads as another")
    one.require(Recipe.read(recipe.canonical).canonical == recipe.canonical, "its canonical form reads as another")
    one.require(json.loads(json.dumps(blocks, allow_nan=False)) == blocks, "its canonical form is not plain data")
    digests = {"network": "n", "data": "d"}
    one.require(Recipe.read(blocks).key(digests) == recipe.key(digests), "its canonical form has another key")
    found = paradigm(recipe)
    one.require(found == (entry.facts.paradigm or name), f"its paradigm is {found!r}")
    sourced = entry.source != "" or entry.summary.startswith("control")
    one.require(sourced, "it has no source; a control without one has a summary that begins with 'control'")
    # Long enough for every paper's places.
    space = read_space(*find(name), [("train.steps", "1000ep")])
    one.require(space.preset == name and not space.has_holes, "it is not found by its name, or has holes")
    long = entry.make()
    long["train"] = {**long.get("train", {}), "steps": "1000ep"}
    one.require(
        space.only_recipe().canonical == Recipe.read(long).canonical, "the recipe found by its name is a different one"
    )
    entry.make()["mask"].clear()
    one.require(entry.make()["mask"], "changing the recipe that was read changes the next one that is read")
