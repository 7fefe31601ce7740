"""Two searches that pause and promote their trials at the same time, in two processes on one storage."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS
from real_search import SMALL, Started, outcomes

import prune_search
from prune_search import Options, Where
from prune_search.ledger.records import read_search

pytestmark = [MLFLOW_WARNINGS, pytest.mark.long]
SPACE = f"""\
{SMALL}
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.95}}}}
any:
- preset: snip
  retrain: {{until: end, clock: 0it}}
- preset: magnitude-after-training
  retrain: {{steps: {{hole: int, low: 1ep, high: 2ep}}, clock: {{hold: {{hole: loguniform, low: 0.01, high: 0.1}}}}}}
- preset: lottery-ticket
  rounds: {{hole: int, low: 2, high: 4}}
search:
  {{trials: 10, concurrency: 2, reproducible: true, seed: 3, scheduler: {{name: asha-promote, grace: 20%}}}}
"""


def test_each_search_takes_the_course_that_it_takes_alone(tmp_path: Path, trouble: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    storage = tmp_path / "both"
    started = {
        name: Started.of(tmp_path, trouble, storage, name, "launch", "space.yaml", "--name", name, *words)
        for name, words in (("one", ()), ("two", ("--set", "search.seed=5")))
    }
    for search in started.values():
        said = search.said(600.0)
        assert said.code == 0, said.err
    alone = prune_search.launch(
        tmp_path / "space.yaml",
        where=Where(storage=tmp_path / "alone"),
        options=Options(name="one"),
    ).records
    assert outcomes(read_search(started["one"].folder)) == outcomes(alone)
    for search in started.values():
        assert any(trial.promotions for trial in read_search(search.folder).trials.values())
