"""The same space searched over every task; killed and resumed, exported, repeated exactly, and loaded as a network."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from every_task import METRICS, NAMES, given, space
from real_mlflow import MLFLOW_WARNINGS
from real_search import Started, outcomes, statuses

import prune_search
from prune_search.ledger.records import SearchRecords

pytestmark = [MLFLOW_WARNINGS, pytest.mark.slow, pytest.mark.services, pytest.mark.xdist_group("ray")]


# The one whose state is the largest part of the task's own; what the others differ in is covered by test_runs.py.
OFTEN = ("stream",)
CASES = [
    case if case.values[0] in OFTEN else pytest.param(*case.values, marks=[*case.marks, pytest.mark.long], id=case.id)
    for case in NAMES
]


def killed_and_resumed(file: Path, sets: Mapping[str, Any], where: prune_search.Where, trouble: Path) -> SearchRecords:
    """The same search in a storage of its own: killed with all its processes while it trains, and gone on with here."""
    place = dataclasses.replace(where, storage=file.parent / "killed")
    words = ["launch", file.name, "--data-root", str(file.parent), *(["--task", str(where.task)] if where.task else [])]
    for key, value in sets.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    started = Started.of(file.parent, trouble, file.parent / "killed", file.stem, *words)
    started.wait_for_attempts(3)
    started.kill_all()
    return prune_search.resume(file.stem, where=place).records


@pytest.mark.parametrize("name", CASES)
def test_six_trials_are_searched_killed_exported_and_exact(name: str, tmp_path: Path, trouble: Path) -> None:
    sets, where = given(name, tmp_path)
    file = tmp_path / f"{name.replace('_', '-')}.yaml"
    file.write_text(space(name))
    outcome = prune_search.launch(file, set=sets, where=where)
    assert statuses(outcome.records) == ["completed"] * 6
    assert outcomes(killed_and_resumed(file, sets, where, trouble)) == outcomes(outcome.records)
    metric = f"val/{METRICS[name][0]}"
    for trial in outcome.records.numbered():
        assert metric in trial.result["metrics"]
    prune_search.export(outcome.records.name, tmp_path / "best", where=where)
    assert prune_search.verify(tmp_path / "best", where=where).verdict == "exact"
    network = prune_search.load(tmp_path / "best", where=where).network()
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values() if tensor.is_floating_point())
