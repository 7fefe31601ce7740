"""How this process connects to Ray and lets go of it, where Ray keeps its sockets, and what is said when it fails."""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any

import pytest
import ray

from prune_search.recipe.problems import UserError
from prune_search.search.ray import connection
from prune_search.search.ray.connection import MAX_TMPDIR, connect, disconnect, session_folder
from prune_search.search.ray.runtime_env import IN_A_JOB
from prune_search.search.ray.token import MODE

# The longest path of a socket that Linux takes.
LONGEST = 107
SOCKET = "ray/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store.1"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)


def fits(folder: str) -> bool:
    return len(f"{folder}/{SOCKET}".encode()) <= LONGEST


def test_a_temporary_folder_that_is_too_long_for_a_socket_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert session_folder() is None
    rng = random.Random(9)
    for length in [1, MAX_TMPDIR - 1, MAX_TMPDIR, MAX_TMPDIR + 1, *(rng.randint(1, 200) for _ in range(50))]:
        letters = "".join(rng.choices("ab _%?#ü文", k=length - 1))
        monkeypatch.setenv("TMPDIR", f"/{letters}")
        found = session_folder()
        assert (found is None) == fits(f"/{letters}")
        assert found in (None, "/tmp/ray")


def test_where_no_short_folder_is_left_one_line_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "/" + "x" * 90
    monkeypatch.setenv("RAY_TMPDIR", long)
    with pytest.raises(UserError, match=r"^RAY_TMPDIR: is too long for Ray's sockets \(91 bytes, .*RAY_TMPDIR=/tmp$"):
        session_folder()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", long)
    monkeypatch.setattr(connection, "SHORT", str(tmp_path / "not there"))
    with pytest.raises(UserError, match=r"^TMPDIR: is too long for Ray's sockets"):
        session_folder()
    # The one that Ray takes first is the one that counts.
    monkeypatch.setenv("RAY_TMPDIR", "/short")
    assert session_folder() is None


def test_whatever_ray_raises_when_it_starts_here_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "no folder"
    file.write_text("")
    monkeypatch.setenv("RAY_TMPDIR", str(file)[:MAX_TMPDIR] if len(str(file)) <= MAX_TMPDIR else "/dev/null")
    with pytest.raises(UserError, match=r"^Ray cannot be started on this machine: [^\n]+$"):
        connection.start({"include_dashboard": False, "log_to_driver": False, "num_cpus": 1})


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
    with pytest.raises(UserError, match="Ray cannot be started on this machine: nobody answers"):
        connect(None, {})


@pytest.mark.slow
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
