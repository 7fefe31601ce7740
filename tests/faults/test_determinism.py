"""The same masks and figures however many workers there are: row 13 of the fault table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS
from real_search import MIXED, outcomes, troubles

import prune_search
from prune_search import Options, Where
from prune_search.ledger.records import SearchRecords
from prune_search.ledger.tracking_uri import default_uri

pytestmark = [MLFLOW_WARNINGS, pytest.mark.faults]


@pytest.fixture(autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs, and the criteria of the space are known."""
    with troubles():
        yield


def launch(home: Path, workers: int) -> SearchRecords:
    """A search on a storage of its own; its sampler learns nothing, so that its trials do not depend on the workers."""
    file = home / f"with-{workers}.yaml"
    file.write_text(MIXED)
    values = {"search.sampler": "random", "search.trials": 6, "search.controls": False}
    values |= {"search.concurrency": workers, "search.cpus_per_trial": 0.5}
    options = Options(tracking_uri=default_uri(home))
    return prune_search.launch(file, set=values, where=Where(storage=home / str(workers)), options=options).records


def test_four_workers_find_what_one_finds(tmp_path: Path) -> None:
    one, four = launch(tmp_path, 1), launch(tmp_path, 4)
    assert outcomes(one) == outcomes(four)
    assert len({trial.result["mask_sha256"] for trial in four.numbered()}) > 1
