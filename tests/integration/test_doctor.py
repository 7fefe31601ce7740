"""`doctor`: what it finds here, on a cluster, in an object store; each line ok or what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Typed
from object_store import BUCKET, ObjectStore
from protected_head import NEEDS_DASHBOARD, Head

from prune_search.api import doctor
from prune_search.api.doctor import Finding
from prune_search.search.ray.nodes import ClusterNode, versions

NODE = ClusterNode("first (10.0.0.1)", versions(), 0, 0, 100 * 2**30, 0.0, 0.01, True, "")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def said(typed: Typed, *words: str) -> tuple[int, dict[str, Finding]]:
    answer = typed("doctor", "--json", *words)
    data = json.loads(answer.out)
    assert data["ok"] == (answer.code == 0)
    return answer.code, {found["what"]: Finding(**found) for found in data["findings"]}


def test_a_fresh_machine_is_well_and_nothing_is_left_behind(typed: Typed, tmp_path: Path) -> None:
    code, found = said(typed, "--storage", str(tmp_path / "store"))
    assert code == 0
    assert set(found) == {
        *("token", "nodes", "versions", "GPUs", "disk", "clocks", "storage", "conditional writes", "MLflow")
    }
    assert f"ray {versions()['ray']}" in found["versions"].said
    assert found["conditional writes"].said == "yes"
    assert not any((tmp_path / "store").glob("*")), "the storage was not there, and is not there now"
    text = typed("doctor", "--storage", str(tmp_path / "store")).out
    assert [line[:4] for line in text.splitlines()] == ["ok  "] * len(found)


@pytest.mark.slow
def test_problems_are_reported_with_how_to_fix_them(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("canary-token")
    token.chmod(0o644)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    code, found = said(typed, "--storage", str(tmp_path / "file"), "--tracking-uri", "http://127.0.0.1:1")
    assert code == 1
    assert (found["token"].ok, found["token"].mend) == (False, f"chmod 600 {token}")
    assert not found["storage"].ok
    assert "Not a directory" in found["storage"].said
    assert not found["MLflow"].ok
    assert "MLFLOW_TRACKING_USERNAME" in found["MLflow"].mend
    token.chmod(0o600)
    assert "export RAY_AUTH_MODE=token" in said(typed, "--storage", str(tmp_path))[1]["token"].mend
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert said(typed, "--storage", str(tmp_path))[1]["token"].ok
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    assert "cannot be read" in said(typed, "--storage", str(tmp_path))[1]["token"].said


def test_an_address_where_nobody_listens(typed: Typed, tmp_path: Path) -> None:
    code, found = said(typed, "--address", "127.0.0.1:1", "--storage", str(tmp_path))
    assert code == 1
    assert "there is no Ray cluster at 127.0.0.1:1" in found["Ray"].said
    assert "start its nodes with one" in found["token"].mend


def test_nodes_that_differ() -> None:
    odd = {**NODE.versions, "torch": "2.6.0+cu124"}
    other = replace(NODE, name="second (10.0.0.2)", versions=odd, clock=-60.0, disk_free=2**30)
    found = {finding.what: finding for finding in doctor.check_nodes([NODE, other], "head:6379")}
    assert [found[what].ok for what in ("versions", "disk", "clocks")] == [False, False, False]
    assert f"second (10.0.0.2) has torch 2.6.0+cu124 instead of {NODE.versions['torch']}" in found["versions"].said
    assert "second (10.0.0.2) (1.0 GiB)" in found["disk"].said
    assert "second (10.0.0.2) (-60.0 s)" in found["clocks"].said
    # A slow answer says nothing about a clock.
    slow = replace(NODE, clock=-60.0, clock_within=70.0)
    assert all(finding.ok for finding in doctor.check_nodes([NODE, slow], "head:6379"))
    cuda = replace(NODE, versions={**NODE.versions, "torch": NODE.versions["torch"].partition("+")[0] + "+cu124"})
    assert doctor.check_versions([NODE, cuda]).ok
    here = Path("/shared/store")
    assert doctor.check_shared([NODE, NODE], here, here).said == "/shared/store, seen by all 2 nodes"
    blind = replace(NODE, name="second", found=False, wrote="there is no /shared/store/x")
    shared = doctor.check_shared([NODE, blind], here, here)
    assert (shared.ok, shared.said) == (False, "/shared/store: second: there is no /shared/store/x")


@pytest.mark.parametrize(("conditions", "answer"), [("kept", "yes"), ("ignored", "not supported: a segment")])
def test_an_object_store_with_and_without_conditional_writes(
    conditions: str, answer: str, object_store: ObjectStore, typed: Typed
) -> None:
    object_store.conditions = conditions
    code, found = said(typed, "--storage", f"s3://{BUCKET}/store")
    assert code == 0, found
    assert found["conditional writes"].said.startswith(answer)
    code, found = said(typed, "--storage", "s3://no-such-bucket/store")
    assert (code, found["storage"].ok) == (1, False)


@NEEDS_DASHBOARD
def test_a_cluster_is_asked_node_by_node(head: Head, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prune_search", "doctor", "--address", head.address, "--storage", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=head.environment("right"), timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ok    token               in {head.token}" in done.stdout
    assert f"ok    storage             {tmp_path}" in done.stdout
    assert head.token.read_text() not in done.stdout + done.stderr
