"""Row A4: what `prune-search ui` starts answers nobody by another name, from another page, or without a password."""

from __future__ import annotations

import base64
import importlib.util
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Typed
from real_mlflow import ADMIN, LocalServer, local_server

from prune_search.ledger.tracking_uri import default_uri
from prune_search.tracking.store import Serving, ui_command

pytestmark = pytest.mark.security

SEARCH = "/api/2.0/mlflow/experiments/search"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server that asks for names and passwords."""
    if importlib.util.find_spec("flask_wtf") is None:
        pytest.skip("needs mlflow[auth]")
    with local_server(tmp_path_factory.mktemp("served"), auth=True) as server:
        yield server


def answer(server: LocalServer, password: str | None, **headers: str) -> int:
    """The status that a query for experiments is answered with."""
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{ADMIN[0]}:{password}".encode()).decode()
    body = json.dumps({"max_results": 1}).encode()
    headers["Content-Type"] = "application/json"
    request = urllib.request.Request(server.uri + SEARCH, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as got:
            return int(got.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.services
def test_without_or_with_a_wrong_password_nothing_is_told(server: LocalServer) -> None:
    assert answer(server, None) == 401
    assert answer(server, "another-password") == 401
    assert answer(server, ADMIN[1]) == 200


@pytest.mark.services
def test_foreign_names_and_pages_are_refused_even_with_the_password(server: LocalServer) -> None:
    assert answer(server, ADMIN[1], Host="attacker.example") == 403
    assert answer(server, ADMIN[1], Origin="http://attacker.example") == 403
    assert answer(server, ADMIN[1], Host=f"localhost:{server.port}") == 200


def test_it_listens_on_this_machine_unless_hosts_are_named(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = default_uri(tmp_path)
    command = ui_command(tmp_path, uri)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    for host in ("0.0.0.0", "::", "192.0.2.1", "mlflow.example"):
        for words in (["--host", host], ["--host", host, "--auth"]):
            said = typed("ui", *words)
            assert (said.code, said.err.count("\n")) == (2, 1), said.err
            assert "is open to other machines" in said.err
    named = ui_command(tmp_path, uri, Serving("0.0.0.0", allowed_hosts="mlflow.example:5000"))
    assert named[named.index("--allowed-hosts") + 1] == "mlflow.example:5000"


@pytest.mark.skipif(importlib.util.find_spec("flask_wtf") is None, reason="needs mlflow[auth]")
@pytest.mark.parametrize("password", [None, "short"])
def test_the_first_user_needs_a_password(password: str | None, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_USERNAME", "me")
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    if password is not None:
        monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", password)
    said = typed("ui", "--auth")
    assert (said.code, said.err.count("\n")) == (2, 1), said.err
    assert "--auth: the first user's name and password (12 characters or more) must be in" in said.err
