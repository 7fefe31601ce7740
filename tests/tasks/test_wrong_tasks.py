"""Wrong tasks on the command line: exit code 2, a line for each thing, no traceback, and nothing is made."""

from __future__ import annotations

from pathlib import Path

from command_line import Typed
from wrong_tasks import SEVERAL, WRONG

SHORT = ("--set", "train.steps=2it", "--set", "train.batch=16", "--set", "mask.sparsity=0.5")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_each_is_told_in_one_line_and_nothing_is_made(typed: Typed, tmp_path: Path) -> None:
    told = {}
    for name, (_, words) in WRONG.items():
        said = typed("run", "snip", "--task", f"wrong_tasks:{name}", "--out", str(tmp_path / "out"), *SHORT)
        fine = said.code == 2 and not said.out and said.err.count("\n") == 1 and "Traceback" not in said.err
        if not fine or not all(word in said.err for word in words):
            told[name] = (said.code, said.out[-300:], said.err[-1500:])
    assert told == {}
    assert files(tmp_path) == []


def test_a_launch_of_one_tells_it_as_well(typed: Typed, tmp_path: Path) -> None:
    for name in ("nan", "wrong_keys", "metric_raises"):
        said = typed("launch", "quickstart", "--task", f"wrong_tasks:{name}", *SHORT[:4])
        assert (said.code, "Traceback" in said.err) == (2, False), said.err
        assert all(word in said.err.splitlines()[-1] for word in WRONG[name][1])
    assert files(tmp_path) == []


def test_several_things_are_told_at_once(typed: Typed, tmp_path: Path) -> None:
    said = typed("run", "snip", "--task", "wrong_tasks:several", *SHORT)
    lines = said.err.splitlines()
    assert (said.code, len(lines)) == (2, len(SEVERAL[1])), said.err
    for line, word in zip(lines, SEVERAL[1], strict=True):
        assert word in line
    assert files(tmp_path) == []
