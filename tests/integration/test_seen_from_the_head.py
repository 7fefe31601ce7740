"""What a driver tells of its cluster, and the memory of trials, where that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS, kept_runs
from real_search import SMALL

import prune_search
from prune_search import Options, Where
from prune_search.ledger.cluster_status import read_machines
from prune_search.ledger.tracking_uri import default_uri

pytestmark = MLFLOW_WARNINGS

SPACE = f"""\
# prune-search launch two.yaml
{SMALL}
preset: random
mask: {{sparsity: {{hole: uniform, low: 0.3, high: 0.9}}}}
search: {{sampler: random, trials: 2, concurrency: 1, controls: false}}
"""


@pytest.mark.usefixtures("trouble")
def test_the_cluster_and_the_memory_of_trials_are_told(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    (tmp_path / "two.yaml").write_text(SPACE)
    options = Options("two", default_uri(tmp_path), system_metrics=True)
    records = prune_search.launch(tmp_path / "two.yaml", where=Where(storage=tmp_path), options=options).records
    machines = read_machines(records.folder)
    assert machines is not None
    assert (machines.nodes, machines.lost, machines.cpus, machines.gpus) == (1, 0, 2, 0)
    assert 0 <= machines.cpus_used <= 2
    for trial in records.numbered():
        assert all(50 < record.data["system"]["memory_peak_mib"] < 10_000 for record in trial.measured)
        # The search's own metrics stay what they are: the same on every machine.
        assert not [name for name in trial.metrics if "memory" in name]
    definition = records.definition
    runs = kept_runs(MlflowClient(records.tracking_uri), definition["experiment"], definition["id"])
    for run in runs:
        assert ("system/memory_peak_mib" in run.run.data.metrics) == bool(run.key)
