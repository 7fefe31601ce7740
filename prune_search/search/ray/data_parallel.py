"""A trial that several workers train together: Ray Train starts them and connects them with torch's process groups."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prune_search.ledger.records import TRIALS, read_trial
from prune_search.search.ray.worker import TrialJob, attempt, setup_of
from prune_search.storage.places import place_of

if TYPE_CHECKING:
    from prune_search.search.given_code import GivenCode
    from prune_search.training.data_parallel import WorkerGroup

# A worker that fails waits so long before it says so, in seconds: what the leader meets as well, it writes down first.
GRACE_S = 5.0


def trainable_together(config: Mapping[str, Any], given: GivenCode | None = None) -> None:
    """As `worker.trainable`, for a trial of several workers."""
    from ray import tune

    tune.report({"status": attempt_data_parallel(TrialJob.of_config(config, given))})


def attempt_data_parallel(job: TrialJob) -> str:
    """One attempt of a trial by `job.workers` workers.

    Args:
        job: the trial.

    Returns:
        As `worker.run_job`.

    Raises:
        ray.train.TrainingFailedError: a worker died or failed, so that the trial is tried again.
    """
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from prune_search.training.data_parallel import WAIT_S

    cpus, gpus = (job.search[key] for key in ("cpus_per_trial", "gpus_per_trial"))
    scratch = tempfile.mkdtemp(prefix="prune-search-train-")
    before = len(read_trial(place_of(job.folder) / TRIALS / job.trial).attempts)
    try:
        TorchTrainer(
            _work,
            train_loop_config={**job.as_config(), "given": job.options.given},
            scaling_config=ScalingConfig(
                num_workers=job.workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})},
            ),
            torch_config=TorchConfig(timeout_s=WAIT_S),
            run_config=RunConfig(name=job.trial, storage_path=scratch),
        ).fit()
    except TrainingFailedError:
        # Where the leader came to an end, the others were only left behind.
        if _word_of(job, before) is None:
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    word = _word_of(job, before)
    return word if word is not None else "preempted"


def _word_of(job: TrialJob, before: int) -> str | None:
    """What the records say of how an attempt ended; None where they say nothing.

    Args:
        job: the trial.
        before: how many attempts there were before this one.
    """
    trial = read_trial(place_of(job.folder) / TRIALS / job.trial)
    if trial.ended is not None:
        return str(trial.ended.data["status"])
    if len(trial.attempts) <= before:
        return None
    last = trial.progress.get(trial.attempts[-1].attempt)
    if last is not None and last.oom:
        return "oom"
    return "lacking" if last is not None and last.lacking is not None else None


def _work(config: Mapping[str, Any]) -> None:
    """What every worker runs."""
    from prune_search.training.data_parallel import Leader, WorkerGroup

    job = TrialJob.of_config(config, config["given"])
    if job.search["gpus_per_trial"]:
        from ray.train.torch import get_device

        # The workers of a node see all its devices, and each has its own.
        job = replace(job, options=replace(job.options, device=str(get_device())))
    worker_group = WorkerGroup.joined()
    if worker_group.rank == 0:
        leader = Leader(worker_group)
        attempt(job, leader)
        leader.end()
        return
    try:
        _follow(job, worker_group)
    except Exception:
        time.sleep(GRACE_S)
        raise


def _follow(job: TrialJob, worker_group: WorkerGroup) -> None:
    from prune_search.training.data_parallel import follow
    from prune_search.training.environment import pick_device
    from prune_search.trial.how_trained import followed
    from prune_search.trial.run import settings_of

    setup = setup_of(job, pick_device(job.options.device))
    with settings_of(setup), contextlib.closing(setup):
        follow(worker_group, setup.network, setup.feed, lambda role: followed(setup, role))
