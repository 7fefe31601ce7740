"""How this process connects to Ray, and how it lets go of it; Ray itself is not started."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import ray

from prune_search.recipe.problems import UserError
from prune_search.search.ray.connection import connect, disconnect
from prune_search.search.ray.runtime_env import IN_A_JOB
from prune_search.search.ray.token import MODE


@pytest.fixture
def inits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What Ray would be started with."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **words: given.append(words))
    monkeypatch.setenv(MODE, "disabled")
    monkeypatch.delenv("PRUNE_SEARCH_PLUGINS", raising=False)
    monkeypatch.delenv(IN_A_JOB, raising=False)
    monkeypatch.chdir(tmp_path)
    return given


def test_a_cluster_is_given_the_package_and_the_folder_only_where_code_is_the_users(
    inits: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(None, {})
    connect("head:6379", {})
    connect("head:6379", {"model": "mine:net"})
    monkeypatch.setenv(IN_A_JOB, "{}")
    connect("head:6379", {"model": "mine:net"})
    here, plain, with_code, in_a_job = inits
    assert (here["address"], "runtime_env" in here) == ("local", False)
    assert "working_dir" not in plain["runtime_env"]
    assert with_code["runtime_env"]["working_dir"] == str(tmp_path)
    # What the job was sent with holds for all that it starts.
    assert "runtime_env" not in in_a_job
    assert not any(given["include_dashboard"] for given in inits)


def test_a_cluster_that_is_not_there_is_said_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: Any) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(UserError, match="--address: there is no Ray cluster at head:6379: nobody answers"):
        connect("head:6379", {})
    with pytest.raises(ConnectionError):
        connect(None, {})


def test_no_garbage_is_collected_while_ray_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting: list[bool] = []
    monkeypatch.setattr(ray, "shutdown", lambda: collecting.append(gc.isenabled()))
    disconnect()
    assert collecting == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        disconnect()
        assert not gc.isenabled()
    finally:
        gc.enable()
