"""`prune-search plan`, and when a launch of that size asks for confirmation."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Typed

from prune_search.api.plan import plan
from prune_search.cli.plan import ASK_STEPS, ASK_TRIALS, agreed, must_ask, summary

SPACE = """\
preset: lottery-ticket
task: {data: digits, model: mlp}
train: {steps: 2ep}
rounds: {hole: int, low: 1, high: 3}
search: {trials: 3}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "space.yaml").write_text(SPACE)
    return str(tmp_path / "space.yaml")


def test_the_plan_is_shown_line_by_line_and_as_one_object(file: str, typed: Typed) -> None:
    said = typed("plan", file, "--no-calibrate")
    assert (said.code, said.err) == (0, "")
    words = " ".join(said.out.split())
    assert "trials 3," in words
    assert "first 3 trials" in words
    assert "rounds=" in words
    # Nothing was measured, so that no time is told.
    assert "on one" not in words
    data = json.loads(typed("plan", file, "--no-calibrate", "--trials", "5", "--json").out)
    assert (data["trials"], data["device_hours"]) == (5, None)
    assert not (Path(file).parent / "vertices").exists()


def test_the_line_before_a_launch_says_what_sharing_saves(file: str) -> None:
    planned = plan(file, set={"search.trials": 20}, calibrated=False)
    made = planned.plan
    assert summary(planned) == (
        f"20 trials, {made.steps_shared:,} steps to train "
        f"({made.steps_unshared:,} without sharing, {made.ceiling:.2f} times as many), "
        f"and about {made.steps_controls:,} for controls"
    )
    more = plan(file, set={"search.trials": 20, "search.finalists": {"count": 2, "seeds": 3}}, calibrated=False)
    assert more.plan.steps_finalists == round(6 * made.steps_unshared / 20)
    besides = made.steps_controls + more.plan.steps_finalists
    assert summary(more).endswith(f", and about {besides:,} for controls and finalists")
    assert more.as_data()["steps_finalists"] == more.plan.steps_finalists


def test_a_large_search_is_asked_for_and_no_terminal_agrees_to_none(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = plan(file, calibrated=False)
    assert not must_ask(few)
    assert must_ask(replace(few, plan=replace(few.plan, trials=ASK_TRIALS + 1)))
    assert must_ask(replace(few, plan=replace(few.plan, steps_shared=ASK_STEPS + 1)))
    answers = io.StringIO("y\nn\n")
    monkeypatch.setattr("sys.stdin", answers)
    assert not agreed(few)
    monkeypatch.setattr(answers, "isatty", lambda: True)
    assert agreed(few)
    assert not agreed(few)
    assert "Launch it?" in capsys.readouterr().err
