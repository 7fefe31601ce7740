"""`prune-search doctor`: each finding is a line, and what needs fixing ends it with 1."""

from __future__ import annotations

import json

import pytest
from command_line import Typed

from prune_search.api.doctor import Finding


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, ...]]:
    """The checks themselves need services, and have tests of their own; here is what is made of two findings."""
    asked: list[tuple[str | None, ...]] = []

    def examine(*given: str | None) -> list[Finding]:
        asked.append(given)
        found = [Finding("python", True, "3.12")]
        return found if given[0] is None else [*found, Finding("clock", False, "90 s off", "set the clock")]

    monkeypatch.setattr("prune_search.api.doctor.examine", examine)
    return asked


def test_a_healthy_machine_ends_with_0(typed: Typed, asked: list[tuple[str | None, ...]]) -> None:
    said = typed("doctor", "--storage", "/store", "--tracking-uri", "http://mlflow:5000")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"ok    {'python':<18}  3.12\n"
    assert asked == [(None, "/store", "http://mlflow:5000")]


def test_what_needs_fixing_says_how_and_ends_with_1(typed: Typed, asked: list[tuple[str | None, ...]]) -> None:
    said = typed("doctor", "--address", "head:6379")
    assert said.code == 1
    assert [line.split() for line in said.out.splitlines()[1:]] == [
        ["fix", "clock", "90", "s", "off"],
        ["→", "set", "the", "clock"],
    ]
    data = json.loads(typed("doctor", "--address", "head:6379", "--json").out)
    assert data["ok"] is False
    assert [finding["ok"] for finding in data["findings"]] == [True, False]
