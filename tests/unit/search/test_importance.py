"""Which knob mattered: on figures of which it is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulated_search import Simulation

from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.search.importance import MIN_TRIALS, importance_data

SPACE = """\
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 3ep, optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1.0}}}
mask: {sparsity: {hole: uniform, low: 0.1, high: 0.97}}
any:
- preset: snip
- preset: lottery-ticket
  rounds: {hole: int, low: 2, high: 6}
search: {sampler: random, trials: 60, concurrency: 3, seed: 5, controls: false}
"""


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def figures(trial: TrialRecords) -> Mapping[str, Any]:
    """Up to a sparsity of 0.8 the learning rate is all that matters, beyond it the sparsity; and rounds a little."""
    params = trial.params
    sparsity = params["mask.sparsity"]
    accuracy = 0.5 + 0.4 * params["train.optimizer.lr"] if sparsity < 0.8 else 3.0 * (1.0 - sparsity)
    accuracy += 0.002 * params.get("rounds", 0)
    return {"val/accuracy": accuracy, "val/loss": 1.0, "sparsity": sparsity, "steps_trained": 27}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        return Simulation.begin(tmp_path_factory.mktemp("importance"), SPACE, figures=figures).run()


@pytest.fixture(scope="module")
def entries(records: SearchRecords) -> list[dict[str, Any]]:
    return importance_data([records])


@pytest.mark.slow
def test_what_mattered_differs_from_band_to_band(entries: list[dict[str, Any]]) -> None:
    bands = {tuple(e["sparsity"]): e["knobs"] for e in entries if e["sparsity"] is not None and e["knobs"]}
    middle = next(knobs for (low, _), knobs in bands.items() if low == 0.5)
    assert next(iter(middle)) == "train.optimizer.lr"
    assert middle["train.optimizer.lr"] > 0.75
    whole = entries[0]
    assert (whole["sparsity"], whole["option"], whole["trials"]) == (None, None, 60)
    for entry in entries:
        assert not entry["knobs"] or sum(entry["knobs"].values()) == pytest.approx(1.0, abs=1e-4)
        assert bool(entry["knobs"]) is ("why" not in entry)
    assert json.loads(json.dumps(entries)) == entries


def test_a_hole_of_one_option_is_weighed_among_its_trials(entries: list[dict[str, Any]]) -> None:
    options = {entry["option"]: entry["knobs"] for entry in entries if entry["option"] is not None}
    assert "rounds" in options["lottery-ticket"]
    assert "rounds" not in options["snip"]
    assert not any("rounds" in name for name in entries[0]["knobs"])


def test_searches_over_one_space_are_weighed_together(records: SearchRecords) -> None:
    (first, *_) = importance_data([_first(records, 6), _first(records, 6)])
    assert first["trials"] == 12
    other = SearchRecords("other", records.folder, {**records.definition, "space": _changed(records)}, records.trials)
    assert [
        e["searches"]
        for e in importance_data([_first(records, 6), _first(other, 6)])
        if e["sparsity"] is None and e["option"] is None
    ] == [
        [records.name],
        ["other"],
    ]


def _first(records: SearchRecords, count: int) -> SearchRecords:
    trials = dict(list(records.trials.items())[:count])
    return SearchRecords(records.name, records.folder, records.definition, trials)


def _changed(records: SearchRecords) -> dict[str, Any]:
    space = json.loads(json.dumps(records.definition["space"]))
    space["options"][0]["rounds"] = 2
    return dict(space)


def test_of_few_trials_nothing_is_said(records: SearchRecords) -> None:
    (entry, *_) = importance_data([_first(records, MIN_TRIALS - 1)])
    assert entry["knobs"] == {}
    assert entry["why"] == "9 trials have completed, and at least 10 are needed"


def test_figures_that_are_all_the_same_say_nothing(tmp_path: Path) -> None:
    same = Simulation.begin(
        tmp_path, SPACE.replace("trials: 60", "trials: 12"), figures=lambda t: {**figures(t), "val/accuracy": 0.5}
    )
    entry = importance_data([same.run()])[0]
    assert entry["why"] == "all of them have the same figure"
