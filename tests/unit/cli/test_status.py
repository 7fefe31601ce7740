"""``prune-search status`` and ``list``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import Typed
from told_search import Told

from prune_search.cli import status
from prune_search.ledger.cluster_status import Machines, tell_machines
from prune_search.ledger.progress import Progress
from prune_search.ledger.records import Recorder
from prune_search.storage.lease import Lease
from prune_search.tracking.delivered_log import memory_folder

HEAVY = ("torch", "ray", "mlflow", "optuna")


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """Four trials are planned, of which two have ended."""
    told = Told.begin(tmp_path, "monday")
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    told.failed(0.7)
    return told


def test_status_says_how_far_a_search_is_and_what_to_type_next(told: Told, typed: Typed) -> None:
    said = typed("status", "monday")
    assert said.code == 0
    words = " ".join(said.out.split())
    assert "monday interrupted" in words
    assert "2 of 4: 1 completed 0 stopped 1 failed 0 duplicates 0 running 2 waiting" in words
    assert "001-snip" in words
    assert "nan: the loss is not a number" in words
    assert "prune-search resume monday" in words


def test_without_a_name_it_is_the_search_that_runs_or_the_latest(told: Told, tmp_path: Path, typed: Typed) -> None:
    later = Told.begin(tmp_path, "tuesday")
    for folder, created in ((told.folder, 100.0), (later.folder, 200.0)):
        file = folder / "search.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "created": created}))
    assert typed("status").out.startswith("tuesday")
    with Lease(told.folder, lost=lambda: None):
        assert typed("status").out.startswith("monday")
    assert "no searches yet" in typed("status", "--storage", str(tmp_path / "empty")).err


def test_status_as_json_is_one_object(told: Told, typed: Typed) -> None:
    said = typed("status", "monday", "--json")
    data = json.loads(said.out)
    assert (data["name"], data["state"]) == ("monday", "interrupted")
    assert {"completed", "stopped", "failed", "running", "waiting"} <= set(data["trials"])


def test_a_search_whose_lease_is_held_runs(told: Told, typed: Typed) -> None:
    with Lease(told.folder, lost=lambda: None):
        assert json.loads(typed("status", "monday", "--json").out)["state"] == "running"
    assert json.loads(typed("status", "monday", "--json").out)["state"] == "interrupted"


def test_the_cluster_is_seen_while_the_search_runs(told: Told, typed: Typed) -> None:
    recorder, _ = told.propose("snip", 0.8)
    recorder.write("started", {"host": "here", "pid": 1, "node": ""})
    recorder.progress(Progress(trained=5, oom=True))
    other, _ = told.propose("snip", 0.7)
    other.write("started", {"host": "here", "pid": 1, "node": ""})
    other.write("started", {"host": "here", "pid": 1, "node": ""})
    Recorder(told.folder, other.trial, 2).write("started", {"host": "there", "pid": 1, "node": ""})
    tell_machines(told.folder, Machines(4, 1, cpus=8, cpus_used=2, gpus=2, gpus_used=1.5, time=time.time()))
    with Lease(told.folder, lost=lambda: None):
        words = " ".join(typed("status", "monday").out.split())
        data = json.loads(typed("status", "monday", "--json").out)
    assert "cluster 4 nodes (1 lost) 1.5 of 2 GPUs in use 2 of 8 CPUs in use" in words
    assert "waiting 1 for a whole device" in words
    assert "retried 2 attempts" in words
    assert data["waits"] == {"for_training": 0, "for_device": 1}
    # What was told by a driver that is gone says nothing about now.
    assert json.loads(typed("status", "monday", "--json").out)["machines"] is None
    tell_machines(told.folder, Machines(4, 1, cpus=8, cpus_used=2, gpus=2, gpus_used=1.5, time=time.time() - 90))
    with Lease(told.folder, lost=lambda: None):
        assert json.loads(typed("status", "monday", "--json").out)["machines"] is None


def test_what_mlflow_has_not_got_is_seen(told: Told, typed: Typed) -> None:
    assert json.loads(typed("status", "monday", "--json").out)["undelivered"] is None
    memory_folder(told.folder, told.records.tracking_uri).mkdir(parents=True)
    left = json.loads(typed("status", "monday", "--json").out)["undelivered"]
    assert left > 10
    assert f"MLflow {left} records not delivered yet" in " ".join(typed("status", "monday").out.split())


def test_watch_ends_when_the_search_runs_no_more(told: Told, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOOK_EVERY_S", 0.05)
    lease = Lease(told.folder, lost=lambda: None)
    lease.__enter__()
    threading.Timer(0.2, lambda: lease.__exit__()).start()
    said = typed("status", "monday", "--watch")
    assert said.code == 0
    assert "interrupted" in said.out.split("monday")[-2] + said.out.split("monday")[-1]


def test_watch_shows_what_is_expected_beside_chance(told: Told, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    course: list[dict[str, float | None]] = [
        {"steps": 100 * place, "value": 0.5 + place / 100, "low": 0.4, "high": 0.9, "chance": place and 0.45}
        for place in range(9)
    ]
    course[0]["chance"] = None
    tells = {"search": "monday", "metric": "val/accuracy", "direction": "maximize", "course": course, "effects": []}
    monkeypatch.setattr("prune_search.api.believed.Believed.watched", lambda self, records: tells)
    words = " ".join(typed("status", "monday", "--watch").out.split())
    assert "expected best val/accuracy so far, as the search estimates it now: 0.5 (0.4 … 0.9) at 0 paid steps" in words
    assert "0.58 (0.4 … 0.9) at 800 paid steps; random search 0.45" in words
    assert words.count("paid steps") == status.SHOWN
    assert "paid steps" not in typed("status", "monday").out


def test_ctrl_c_ends_the_looking_only(told: Told, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with Lease(told.folder, lost=lambda: None):
        monkeypatch.setattr("time.sleep", interrupt)
        said = typed("status", "monday", "--watch")
    assert (said.code, said.err) == (0, "")


def test_watch_and_json_exclude_each_other(told: Told, typed: Typed) -> None:
    said = typed("status", "monday", "--watch", "--json")
    assert (said.code, said.out) == (2, "")
    assert "--watch: cannot be combined with --json" in said.err


def test_an_unknown_name_is_answered_with_the_nearest_one(told: Told, typed: Typed) -> None:
    said = typed("status", "mondy")
    assert said.code == 2
    assert "did you mean 'monday'?" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", ["../monday", "/etc", "a\0b", ".hidden"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, told: Told, typed: Typed) -> None:
    said = typed("status", name)
    assert said.code == 2
    assert "is not allowed" in said.err


def test_damaged_records_are_said_in_one_line(told: Told, typed: Typed) -> None:
    (told.folder / "search.json").write_text('{"format": 1, "name": "monday"}')
    for verb in ("status", "compare"):
        said = typed(verb, "monday")
        assert said.code == 2
        assert "records are damaged" in said.err
        assert said.err.count("\n") == 1


def test_list_shows_every_search(told: Told, tmp_path: Path, typed: Typed) -> None:
    Told.begin(tmp_path, "tuesday")
    out = typed("list").out
    assert "monday" in out
    assert "2 of 4" in out
    assert "tuesday" in out
    data = json.loads(typed("list", "--json").out)
    assert [row["name"] for row in data["searches"]] == ["monday", "tuesday"]
    assert data["storage"] == str(tmp_path)


def test_list_of_an_empty_storage_says_how_to_begin(tmp_path: Path, typed: Typed) -> None:
    said = typed("list", "--storage", str(tmp_path / "none"))
    assert said.code == 0
    assert "prune-search launch quickstart" in said.out
    assert not (tmp_path / "none").exists()
    assert json.loads(typed("list", "--storage", str(tmp_path / "none"), "--json").out)["searches"] == []


@pytest.mark.parametrize("words", [["status", "monday"], ["list"], ["list", "--json"]], ids=" ".join)
def test_nothing_heavy_is_imported(words: list[str], told: Told, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from prune_search.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", code, *words, "--storage", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert "monday" in done.stdout
