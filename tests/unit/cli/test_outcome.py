"""How the end of a search is told, and the exit code that it gives."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from simulated_search import Simulation

from prune_search.api.outcome import Outcome
from prune_search.cli.outcome import finish

REPEATED = """\
preset: snip
mask: {sparsity: {hole: choice, of: [0.5, 0.6]}}
search: {sampler: random, trials: 4, concurrency: 2, controls: false, seed: 2}
"""


def test_the_exit_code_says_whether_a_trial_completed_or_a_signal_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = Simulation.begin(tmp_path / "failing", REPEATED, figures=lambda trial: None).run()
    outcome = Outcome(failing, None, 0, "run", 12.0)
    assert outcome.as_data()["trials"] == {"completed": 0, "stopped": 0, "failed": 2, "duplicates": 2}
    assert finish(outcome, None, as_json=True) == 3
    assert json.loads(capsys.readouterr().out)["best"] is None
    assert finish(outcome, None, as_json=False) == 3
    assert "no trial has completed" in capsys.readouterr().out
    ended = Simulation.begin(tmp_path / "ended", REPEATED).run()
    assert finish(Outcome(ended, None, 3, "run", 12.0, "no answer."), str(tmp_path / "ended"), as_json=False) == 0
    sync = f"prune-search sync simulated --storage {tmp_path / 'ended'}"
    said = capsys.readouterr().err
    assert "3 records have not reached MLflow at " in said
    assert f" yet: no answer. Deliver them later with: {sync}\n" in said
    assert finish(Outcome(ended, signal.SIGINT, 0, "run", 12.0), None, as_json=False) == 130
    assert "Continue with: prune-search resume simulated\n" in capsys.readouterr().err
