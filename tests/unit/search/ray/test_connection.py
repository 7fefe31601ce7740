"""Where Ray keeps its sockets on this machine, and what is said where it cannot start."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.search.ray import connection
from prune_search.search.ray.connection import MAX_TMPDIR, session_folder

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
