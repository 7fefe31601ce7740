"""The driver is killed at every hook of Ray Tune's callbacks: row 1 of the fault table."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS, kept_runs
from real_search import SMALL, TESTS, environment, outcomes, troubles

import prune_search
from prune_search import Options, Where
from prune_search.ledger.records import SearchRecords
from prune_search.ledger.tracking_uri import default_uri

pytestmark = [MLFLOW_WARNINGS, pytest.mark.faults, pytest.mark.long]

SPACE = f"""\
# prune-search launch five.yaml
{SMALL}
preset: lottery-ticket
mask: {{sparsity: {{per_round: {{hole: uniform, low: 0.2, high: 0.5}}}}}}
rounds: {{hole: int, low: 1, high: 3}}
search: {{trials: 5, concurrency: 2, reproducible: true, seed: 2}}
"""
# How often a hook has been called when the driver is killed: the first time, or in the middle of the search.
HOOKS = {
    "setup": 1,
    "on_step_begin": 20,
    "on_step_end": 20,
    "on_trial_start": 3,
    "on_trial_result": 3,
    "on_trial_complete": 3,
    "on_experiment_end": 1,
}


@pytest.fixture(scope="module", autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs for what is resumed in this process."""
    with troubles():
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    """The search, left in peace."""
    home = tmp_path_factory.mktemp("unbroken")
    (home / "five.yaml").write_text(SPACE)
    options = Options(tracking_uri=default_uri(home))
    return prune_search.launch(home / "five.yaml", where=Where(storage=home), options=options).records


@pytest.mark.parametrize("hook", HOOKS)
def test_a_search_killed_at_a_hook_goes_on_as_if_it_had_not_been(
    unbroken: SearchRecords, trouble: Path, tmp_path: Path, hook: str
) -> None:
    from mlflow import MlflowClient

    (tmp_path / "five.yaml").write_text(SPACE)
    command = [sys.executable, str(TESTS / "killed_at_hook.py"), hook, str(HOOKS[hook]), "launch", "five.yaml"]
    done = subprocess.run(
        [*command, "--storage", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(trouble),
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    outcome = prune_search.resume("five", where=Where(storage=tmp_path))
    assert outcomes(outcome.records) == outcomes(unbroken)
    definition = outcome.records.definition
    runs = kept_runs(MlflowClient(outcome.records.tracking_uri), definition["experiment"], definition["id"])
    assert sorted(run.key for run in runs) == sorted(["", *outcome.records.trials])
    assert {run.status for run in runs} == {"FINISHED"}
    for run in runs:
        places = [(name, step) for name, step, _, _ in run.rows]
        assert len(places) == len(set(places))
