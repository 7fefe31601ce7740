"""The same space searched over every task; exported, repeated exactly, and loaded as a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from every_task import METRICS, NAMES, given, space
from real_search import statuses

import prune_search
from prune_search.ledger.tracking_uri import default_uri

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.xdist_group("ray")]


# One of arrays, one of a stream and one of a network of another library; the others differ in what test_runs.py covers.
OFTEN = ("regression", "stream", "bert")
CASES = [
    case if case.values[0] in OFTEN else pytest.param(*case.values, marks=[*case.marks, pytest.mark.long], id=case.id)
    for case in NAMES
]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("trouble")
def test_six_trials_are_searched_exported_and_exact(name: str, tmp_path: Path) -> None:
    sets, where = given(name, tmp_path)
    file = tmp_path / "space.yaml"
    file.write_text(space(name))
    options = prune_search.Options(name.replace("_", "-"), tracking_uri=default_uri(tmp_path / "storage"))
    outcome = prune_search.launch(file, set=sets, where=where, options=options)
    assert statuses(outcome.records) == ["completed"] * 6
    metric = f"val/{METRICS[name][0]}"
    for trial in outcome.records.numbered():
        assert metric in trial.result["metrics"]
    prune_search.export(outcome.records.name, tmp_path / "best", where=where)
    assert prune_search.verify(tmp_path / "best", where=where).verdict == "exact"
    network = prune_search.load(tmp_path / "best", where=where).network()
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values() if tensor.is_floating_point())
