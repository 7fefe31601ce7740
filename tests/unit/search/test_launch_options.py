"""What is typed at a launch arrives at the workers."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from prune_search import Options, Where
from prune_search.api.search import launch_options
from prune_search.api.where import DATA_ROOT_VARIABLE
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.ray.worker import TrialJob


def test_every_option_arrives_at_a_worker_as_it_was_given(tmp_path: Path) -> None:
    where = Where(data_root=tmp_path / "data", storage=tmp_path, model="my.module:net", data="mnist", device="cuda:1")
    options = Options(address="10.0.0.1:6379", heartbeat_s=7.0, sharing=False, system_metrics=True)
    given = launch_options(options, where)
    assert given == LaunchOptions(
        storage=str(tmp_path),
        data_root=str(tmp_path / "data"),
        code={"model": "my.module:net"},
        device="cuda:1",
        address="10.0.0.1:6379",
        heartbeat_s=7.0,
        sharing=False,
        system_metrics=True,
    )
    # None of them is left at its default, so that none can have been forgotten; functions travel beside the plain data.
    plain = LaunchOptions(storage="")
    assert all(
        getattr(given, field.name) != getattr(plain, field.name)
        for field in fields(LaunchOptions)
        if field.name != "given"
    )
    job = TrialJob("folder", "000001", {"rounds": 1}, {"workers_per_trial": 2}, given, stops=(3,), alone=True)
    # Tune's config is plain data.
    assert json.loads(json.dumps(job.as_config()))["job"]["options"]["heartbeat_s"] == 7.0
    assert TrialJob.of_config(job.as_config()) == job


def test_relative_folders_are_those_of_where_the_command_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA_ROOT_VARIABLE, raising=False)
    given = launch_options(Options(), Where(data_root="data", storage=tmp_path))
    assert given.data_folder == Path("data").absolute()
    assert launch_options(Options(), Where(storage=tmp_path)).data_folder is None
