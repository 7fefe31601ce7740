"""Several workers that run the same trials, each in a process of its own, against one worker with the same batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).parents[2] / "data_parallel_worker.py"
METHODS = ("magnitude", "snip", "synflow", "rigl", "greg-1", "edge-popup", "lottery-ticket")
SHARED_SCORES = ("grasp", "fisher-obd", "taylor", "hessian-trace", "movement")
SCORED_BY_ALL = ("wanda",)
OPTIONS = ("options", "compiled")


def run_workers(folder: Path, size: int, *what: str) -> tuple[list[int], dict[str, Any], list[str]]:
    """The workers' exit codes, what the first one printed, and what all said."""
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), str(size), folder / "meet", *what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    told = [worker.communicate(timeout=900) for worker in workers]
    return [worker.returncode for worker in workers], json.loads(told[0][0] or "{}"), [err[-2000:] for _, err in told]


# A worker takes long to start: each start shows everything.
@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_several_workers_find_what_one_finds_and_end_together(size: int, tmp_path: Path) -> None:
    codes, found, said = run_workers(tmp_path, size, "passes", "trials", "stops", "differ", "lost")
    assert codes == [0, 1, *[0] * (size - 2)], said
    check_passes(found["passes"])
    check_trials(found["trials"], size)
    check_stops(found["stops"], size)
    assert found["differ"]["said"] == [f"workers [{size - 1}] of {size} hold another mask than worker 0"] * size
    assert found["lost"]["said"].startswith("a data-parallel worker was lost: ")


def check_passes(found: dict[str, Any]) -> None:
    """Gradients, losses and running statistics."""
    assert found["unused"]
    errors, own = found["errors"]["together"], found["errors"]["alone"]
    assert set(errors) == set(own)
    wanted = {
        "plain loss",
        "taught loss",
        "taught first.0.weight",
        "fused 0 loss",
        "fused 1 loss",
        "fused 1 head.weight",
    }
    assert wanted | {"first.1.running_var", "second.1.running_mean", "plain head.bias"} <= set(errors)
    # As near to the gradients in float64 as one worker's in float32 are, within a factor.
    assert {name: error for name, error in errors.items() if error > 2e-5 + 5 * own[name]} == {}


def check_trials(found: dict[str, Any], size: int) -> None:
    """Masks are equal, and losses within 1e-4."""
    together, alone = found["together"], found["alone"]
    assert set(together) == set(alone) == {*METHODS, *SHARED_SCORES, *SCORED_BY_ALL, *OPTIONS}
    for name, trial in together.items():
        assert trial["masks"] == alone[name]["masks"], name
        assert trial["loss"] == pytest.approx(alone[name]["loss"], rel=1e-4), name
        assert trial["environment"] == {**alone[name]["environment"], "workers": size}, name
    for name, again in found["stored"].items():
        assert again["steps"][0] == 0, name
        assert again["masks"] == together[name]["masks"], name
        assert again["loss"] == together[name]["loss"], name


def check_stops(found: dict[str, Any], size: int) -> None:
    """An attempt ends on all workers where the first one's ends, and the next one goes on from its last state."""
    first, *others = found["ends"]
    kinds = [end.split()[0] for end in first]
    assert kinds == ["LackingError", "PreemptedError", "KeyError", "completed"]
    assert len(others) == size - 1
    for other in others:
        assert [end.split()[0] for end in other] == ["EndedError", "PreemptedError", "EndedError", "completed"]
        assert other[-1] == first[-1]
    trained = [int(end.split()[1]) for end in first]
    # Two steps and the one after them were stored; the third attempt stored nothing.
    assert trained[1] == 3
    assert trained[3] == 6 - 3
    assert first[-1].split()[2] == found["straight"]
