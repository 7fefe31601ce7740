"""The function that Ray Tune calls for each trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_search.search.ray.worker import TrialJob, attempt


def trainable(config: Mapping[str, Any]) -> None:
    """The function that Ray Tune runs; one call is one attempt of one trial."""
    from ray import tune

    from prune_search.search.ray.data_parallel import attempt_data_parallel

    job = TrialJob(**config["job"])
    tune.report({"status": attempt(job) if job.workers == 1 else attempt_data_parallel(job)})
