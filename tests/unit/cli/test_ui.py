"""`prune-search ui` starts the server of the storage that it is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Typed

from prune_search.tracking.store import Serving


def test_the_server_is_started_with_what_was_typed_and_its_exit_code_is_passed_on(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, str, Serving]] = []

    def command(folder: Path, uri: str, serving: Serving) -> list[str]:
        """Another program than MLflow's server, which needs ten seconds."""
        asked.append((folder, uri, serving))
        return [sys.executable, "-c", "raise SystemExit(7)"]

    monkeypatch.setattr("prune_search.tracking.store.ui_command", command)
    monkeypatch.setattr("prune_search.tracking.server.prepare", lambda uri: None, raising=False)
    said = typed("ui", "--port", "5099", "--host", "127.0.0.2")
    assert said.code == 7
    assert said.out.startswith("MLflow on http://127.0.0.2:5099 (")
    ((folder, uri, serving),) = asked
    assert (folder, serving.host, serving.port) == (tmp_path, "127.0.0.2", 5099)
    assert str(tmp_path) in uri


def test_other_machines_are_served_only_where_host_names_are_listed(typed: Typed) -> None:
    said = typed("ui", "--host", "0.0.0.0")
    assert (said.code, said.out) == (2, "")
    assert "--allowed-hosts" in said.err


def test_a_wrong_port_and_a_wrong_uri_are_refused(typed: Typed) -> None:
    assert typed("ui", "--port", "70000").code == 2
    said = typed("ui", "--tracking-uri", "ftp://x")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "ftp://x" in said.err
