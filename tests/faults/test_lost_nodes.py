"""Nodes of a cluster that are killed: row 2 of the fault table."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS
from real_search import outcomes, troubles
from virtual_cluster import Nodes, Planned, run_searches

import prune_search
from prune_search import Options, Where
from prune_search.tracking.store import default_uri
from prune_search.trial.records import SearchRecords, read_search, search_folder

pytestmark = [MLFLOW_WARNINGS, pytest.mark.faults, pytest.mark.usefixtures("known")]

STEPS, ROUNDS = 20 * 12, 2
# Steps from 0 to STEPS are those of the first training; each attempt counts from its own beginning.
SPACE = f"""\
# prune-search launch halting.yaml
task: {{data: digits, model: halting, seed: 0}}
train: {{steps: 20ep, batch: 120, optimizer: {{name: sgd, lr: 0.05, momentum: 0.9}}}}
preset: lottery-ticket
mask: {{sparsity: {{per_round: {{hole: choice, of: [0.3]}}}}}}
rounds: {ROUNDS}
search: {{sampler: grid, trials: 1, concurrency: 1, controls: false}}
"""


@pytest.fixture(scope="module", autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs, and the model that makes trouble is known."""
    with troubles():
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    """The trial as nobody disturbs it, on no cluster."""
    home = tmp_path_factory.mktemp("unbroken")
    (home / "halting.yaml").write_text(SPACE)
    options = Options("unbroken", default_uri(home))
    return prune_search.launch(home / "halting.yaml", where=Where(storage=home), options=options).records


@pytest.mark.parametrize(
    ("kills", "seed"), [(1, 0), pytest.param(10, 1, marks=pytest.mark.slow)], ids=["1 kill", "10 kills"]
)
def test_a_trial_whose_node_is_killed_ends_with_the_same_weights(
    unbroken: SearchRecords, tmp_path: Path, kills: int, seed: int
) -> None:
    draw = random.Random(seed)
    (tmp_path / "halting.yaml").write_text(SPACE)
    plans = [
        Planned(
            name=f"killed-{number}",
            file=str(tmp_path / "halting.yaml"),
            storage=str(tmp_path / str(number)),
            tracking_uri=default_uri(tmp_path),
            halt=draw.randint(1, STEPS * (ROUNDS + 1)),
        )
        for number in range(kills)
    ]
    ended = run_searches(Nodes(2), plans, tmp_path)
    assert [len(one["killed"]) for one in ended] == [1] * kills
    for plan in plans:
        records = read_search(search_folder(Path(plan.storage), plan.name))
        (trial,) = records.numbered()
        assert [attempt.data["node"] != "" for attempt in trial.attempts] == [True, True]
        assert trial.attempts[0].data["node"] != trial.attempts[1].data["node"]
        assert outcomes(records) == outcomes(unbroken)
        assert trial.result["weights_sha256"] == unbroken.numbered()[0].result["weights_sha256"]
