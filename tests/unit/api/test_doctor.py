"""What doctor finds on nodes and in a storage, and how it says to fix it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prune_search.api.doctor import Finding, check_conditions, check_nodes, check_shared, check_token
from prune_search.search.ray import token
from prune_search.search.ray.nodes import ClusterNode, versions

FINE = ClusterNode("a", versions(), 1.0, 1, 100 * 2**30, 0.0, 0.0, True, "")


def wrong(findings: list[Finding]) -> dict[str, str]:
    """What needs fixing, and what is said of it; everything that does says how."""
    assert all(finding.mend for finding in findings if not finding.ok)
    return {finding.what: finding.said for finding in findings if not finding.ok}


def test_nodes_that_are_fine_and_agree_need_nothing() -> None:
    other = replace(FINE, name="b", versions={**versions(), "torch": versions()["torch"].partition("+")[0] + "+other"})
    assert wrong(check_nodes([FINE, other], None)) == {}
    assert check_nodes([], None) == []


def test_each_fault_of_a_node_is_told_with_its_name() -> None:
    bad = replace(FINE, name="b", versions={**versions(), "optuna": "0.1"}, gpus_seen=0, disk_free=2**30, clock=-60.0)
    said = wrong(check_nodes([FINE, bad], None))
    assert set(said) == {"versions", "GPUs", "disk", "clocks"}
    assert said["versions"] == f"b has optuna 0.1 instead of {versions()['optuna']}"
    assert (said["disk"], said["clocks"]) == ("nearly full: b (1.0 GiB)", "differ: b (-60.0 s)")
    assert "a" not in said["GPUs"].rpartition(" on ")[2]


def test_a_clock_that_was_read_late_is_given_the_time_that_reading_took() -> None:
    assert wrong(check_nodes([replace(FINE, clock=20.0, clock_within=16.0)], None)) == {}


def test_a_storage_must_be_seen_and_written_by_every_node(tmp_path: Path) -> None:
    alone = replace(FINE, name="b", found=False)
    barred = replace(FINE, name="c", wrote="permission denied")
    fine = check_shared([FINE, FINE], tmp_path, tmp_path)
    assert (fine.ok, fine.said) == (True, f"{tmp_path}, seen by all 2 nodes")
    found = check_shared([FINE, alone, barred], tmp_path, tmp_path)
    assert not found.ok
    assert found.said == f"{tmp_path}: b: sees another folder of that name; c: permission denied"
    assert check_conditions(tmp_path).as_data()["said"] == "yes"


def test_a_cluster_without_a_token_is_open_to_all_and_a_machine_of_ones_own_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token, "token_file", lambda: None)
    monkeypatch.setattr(token, "read_token", lambda: None)
    assert check_token(None).ok
    assert not check_token("ray://head:10001").ok
    monkeypatch.setattr(token, "read_token", lambda: "secret")
    monkeypatch.delenv(token.MODE, raising=False)
    assert check_token("ray://head:10001").said == "set, but not used"
    monkeypatch.setenv(token.MODE, "token")
    assert check_token("ray://head:10001").ok
    assert "secret" not in check_token("ray://head:10001").said
