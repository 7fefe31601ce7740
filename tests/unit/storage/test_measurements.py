"""Measurements are taken once per network, and what was altered is taken again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from prune_search.storage.measurements import Measurements

WHAT = {"kind": "scores", "vertex": "a" * 64, "split": "validation"}


def counted(figures: dict[str, float]) -> tuple[list[int], Callable[[], dict[str, float]]]:
    calls: list[int] = []

    def measure() -> dict[str, float]:
        calls.append(1)
        return figures

    return calls, measure


@pytest.mark.parametrize("value", [0.1, 1 / 3, math.inf, -math.inf, 5e-324])
def test_a_measurement_is_taken_once_and_comes_back_to_the_last_bit(tmp_path: Path, value: float) -> None:
    calls, measure = counted({"accuracy": value})
    for _ in range(3):
        assert Measurements(tmp_path).of(WHAT, measure) == {"accuracy": value}
    assert len(calls) == 1


def test_what_is_no_number_stays_one(tmp_path: Path) -> None:
    calls, measure = counted({"loss": math.nan})
    for _ in range(2):
        assert math.isnan(Measurements(tmp_path).of(WHAT, measure)["loss"])
    assert len(calls) == 1


def test_another_network_split_or_environment_is_another_measurement(tmp_path: Path) -> None:
    calls, measure = counted({"accuracy": 0.5})
    for change in ({}, {"vertex": "b" * 64}, {"split": "test"}, {"environment": {"threads": 2}}):
        Measurements(tmp_path).of({**WHAT, **change}, measure)
    assert len(calls) == 4


@pytest.mark.parametrize("damage", ["cut", "altered", "emptied"])
def test_what_was_altered_is_taken_again(tmp_path: Path, damage: str) -> None:
    calls, measure = counted({"accuracy": 0.5})
    Measurements(tmp_path).of(WHAT, measure)
    (file,) = tmp_path.rglob("*.json")
    text = file.read_text()
    file.write_text({"cut": text[:-9], "altered": text.replace("0.5", "0.6"), "emptied": ""}[damage])
    assert Measurements(tmp_path).of(WHAT, measure) == {"accuracy": 0.5}
    assert len(calls) == 2


def test_without_a_storage_everything_is_measured(tmp_path: Path) -> None:
    calls, measure = counted({"accuracy": 0.5})
    for _ in range(2):
        Measurements(None).of(WHAT, measure)
    assert len(calls) == 2
    assert list(tmp_path.iterdir()) == []
