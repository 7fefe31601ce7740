"""A space is one search, whatever order its file writes its keys in, and after it was stored and read again."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from prune_search.api.definition import BY_NAME, space_of
from prune_search.ledger.records import Record, TrialRecords, trial_id
from prune_search.recipe import strict_yaml
from prune_search.recipe.axes import SAMPLERS
from prune_search.recipe.fields import Value
from prune_search.recipe.reading import Reading
from prune_search.recipe.shipped import shipped_names, shipped_space
from prune_search.recipe.space import Space, known_epoch, read_space
from prune_search.search.proposer import Proposer, check_sampler

PROPOSED = 3
# Optuna's Gaussian processes take seconds for a proposal once there are results.
COUNTS = {"gp": 1}
SHARED_HOLES = ("gp", "cmaes")


def stored(space: Space) -> Space:
    """The space as it is read from search.json, whose keys are sorted."""
    definition = {"space": space.canonical(), "source": space.source, "hole_order": BY_NAME}
    return space_of(json.loads(json.dumps(definition, sort_keys=True)))


def proposals(space: Space, count: int = PROPOSED) -> list[Mapping[str, Any]]:
    """What the first trials are, each with a result that depends on its number alone."""
    known: list[TrialRecords] = []
    found: list[Mapping[str, Any]] = []
    proposer = Proposer(space, known_epoch)
    for number in range(1, count + 1):
        proposal = proposer.propose(number, known, None)
        if proposal is None:
            break
        found.append({"params": proposal.params, "recipe": proposal.recipe.canonical, "sampler": proposal.sampler})
        data = {**found[-1], "number": number, "duplicate_of": None}
        metrics = {"val/accuracy": (number * 7 % 5) / 5, "val/loss": 1.0 / number, "sparsity": (number * 3 % 7) / 7}
        ended = Record(trial_id(number), "ended", 1, 0, 0.0, {"status": "completed", "result": {"metrics": metrics}})
        proposed = Record(trial_id(number), "proposed", 1, 0, 0.0, data)
        known.append(TrialRecords(trial_id(number), proposed, ended=ended))
    return found


def shuffled(node: Any, rng: random.Random) -> Any:
    """The same data, the keys of every mapping in another order."""
    if isinstance(node, dict):
        keys = list(node)
        rng.shuffle(keys)
        return {key: shuffled(node[key], rng) for key in keys}
    return [shuffled(item, rng) for item in node] if isinstance(node, list) else node


def grown(rng: random.Random, conditional: bool) -> dict[str, Any]:
    """A space with holes in several places, in an order of its own; where asked, with holes that others decide on."""
    lr = {"hole": "loguniform", "low": 0.01, "high": 0.5}
    holes: dict[str, Any] = {
        "train": {"steps": "4ep", "batch": {"hole": "choice", "of": [64, 128]}, "optimizer": {"name": "sgd", "lr": lr}},
        "rounds": {"hole": "int", "low": 1, "high": rng.randint(1, 4)},
        "mask": {
            "at": "end",
            "criterion": {"hole": "choice", "of": rng.sample(["magnitude", "l1", "random", "taylor"], 2)},
            "sparsity": rng.choice([{"final": {"hole": "uniform", "low": 0.5, "high": 0.95}}, {"per_round": 0.3}]),
            "scope": {"hole": "choice", "of": ["global", "uniform", {"name": "erk"}]},
        },
        "weights": {"at": {"hole": "choice", "of": ["0it", "1ep", "end"]}},
        "retrain": {
            "hole": "choice",
            "of": [
                {"until": "end", "clock": {"hole": "int", "low": "1ep", "high": "3ep"}},
                {"steps": {"hole": "uniform", "low": "1ep", "high": "2ep"}, "clock": {"hold": 0.01}},
            ],
        },
    }
    if not conditional:
        lasts = {"hole": "uniform", "low": "1ep", "high": "2ep"}
        holes["retrain"] = {"steps": lasts, "clock": {"hold": {"hole": "uniform", "low": 0.01, "high": 0.1}}}
    elif rng.random() < 0.5:
        one = {"preset": "fine-tune", "retrain": {"steps": {"hole": "int", "low": "1ep", "high": "3ep"}}}
        holes["any"] = [one, {"preset": "snip", "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.9}}}]
        holes = {key: holes[key] for key in ("any", "train")}
    # Two holes of every kind at least, by chance not in the order of the alphabet.
    return dict(shuffled({**holes, "search": {"seed": rng.randint(0, 99), "trials": 8}}, rng))


def written(sampler: str) -> Any:
    """A sampler as the canonical search block has it."""
    return Value(SAMPLERS).read(sampler, "", Reading())


def with_sampler(raw: Mapping[str, Any], sampler: str, **more: Any) -> dict[str, Any]:
    return {**raw, "search": {**raw.get("search", {}), "sampler": sampler, **more}}


# Each with a few samplers, others for the next; with all of them it is long.
ASKED = 3


def marks_of(name: str, some: bool) -> list[pytest.MarkDecorator]:
    """What a case is marked with: one is quick."""
    if not some:
        return [pytest.mark.long]
    return [] if name == "sanity_checks" else [pytest.mark.slow]


@pytest.mark.parametrize(
    ("place", "name", "some"),
    [
        pytest.param(place, name, some, marks=marks_of(name, some), id=name if some else f"{name}, every sampler")
        for place, name in enumerate(shipped_names())
        for some in (True, False)
    ],
)
def test_every_shipped_space_is_the_same_search_from_its_file_and_from_what_was_stored(
    place: int, name: str, some: bool
) -> None:
    path = shipped_space(name)
    assert path is not None
    raw = strict_yaml.load_file(path)
    as_written, other = read_space(raw, name), read_space(shuffled(raw, random.Random(1)), name)

    def asking(space: Space, sampler: str) -> Space:
        return replace(space, search={**space.search, "sampler": written(sampler)})

    samplers = [sampler for sampler in SAMPLERS if not check_sampler(asking(as_written, sampler))]
    assert len(samplers) >= ASKED
    begin = place % len(samplers)
    for sampler in (samplers[begin:] + samplers[:begin])[: ASKED if some else None]:
        count = COUNTS.get(sampler, PROPOSED)
        first = proposals(asking(as_written, sampler), count)
        assert first == proposals(stored(asking(as_written, sampler)), count), sampler
        assert first == proposals(asking(other, sampler), count), sampler


# The long ones are more of the same: 200 in all.
@pytest.mark.parametrize(
    ("seed", "count"), [pytest.param(0, 24, marks=pytest.mark.slow), pytest.param(1, 176, marks=pytest.mark.long)]
)
def test_grown_spaces_are_each_one_search_in_any_order_of_keys(seed: int, count: int) -> None:
    rng = random.Random(seed)
    compared = dict.fromkeys(SAMPLERS, 0)
    for number in range(count):
        sampler = list(SAMPLERS)[number % len(SAMPLERS)]
        # A sampler that needs the same holes in every trial is asked about those spaces only.
        raw = grown(rng, conditional=sampler not in SHARED_HOLES)
        space = read_space(with_sampler(raw, sampler), f"grown {number}")
        if check_sampler(space):
            continue
        trials = COUNTS.get(sampler, PROPOSED)
        first = proposals(space, trials)
        other = read_space(with_sampler(shuffled(raw, rng), sampler), "another order")
        assert first == proposals(stored(space), trials), (number, sampler)
        assert first == proposals(other, trials), (number, sampler)
        compared[sampler] += 1
    assert min(compared.values()) >= count // 20


def test_a_grid_visits_every_point_once_where_it_is_stored_and_read_half_way() -> None:
    raw = {
        "mask": {
            "at": "end",
            "sparsity": {"hole": "choice", "of": [0.5, 0.7, 0.9]},
            "criterion": {"hole": "choice", "of": ["magnitude", "l1", "random"]},
        },
        "weights": {"at": "end"},
        "retrain": {"steps": "1ep"},
        "search": {"sampler": "grid", "trials": 9},
    }
    space = read_space(raw, "grid")
    whole, read = proposals(space, 9), proposals(stored(space), 9)
    points = {json.dumps(dict(one["params"]), sort_keys=True) for one in (*whole[:4], *read[4:])}
    assert len(points) == 9
