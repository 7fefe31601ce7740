"""What is known to be in MLflow outlives the process, a cut line, and a changed password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from told_search import Told

from prune_search.tracking.delivered_log import BusyError, DeliveredLog, memory_folder, only_writer
from prune_search.tracking.run_content import Sent


def test_another_process_knows_what_was_noted(tmp_path: Path) -> None:
    log = DeliveredLog(tmp_path)
    log.note("000001", {"run_id": "r1", "params": ["a"], "steps": {"loss": [1, 2]}})
    log.note("000001", {"status": "FINISHED", "tags": {"state": "x"}, "steps": {"loss": [3]}, "data": ["d"]})
    log.close()
    second = DeliveredLog.read(tmp_path)
    second.note("000002", {"run_id": "r2", "gone": True})
    second.close()
    again = DeliveredLog.read(tmp_path)
    expected = Sent("r1", "FINISHED", False, {"a"}, {"state": "x"}, {"loss": {1, 2, 3}}, {}, {"d"})
    assert again.of("000001") == log.of("000001") == expected
    assert again.of("000002").gone
    assert (log.notes, second.notes, again.notes) == (2, 1, 0)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_a_run_that_was_forgotten_is_unknown_again(tmp_path: Path) -> None:
    log = DeliveredLog(tmp_path)
    log.note("000001", {"run_id": "r1"})
    log.note("000001", {"forget": True})
    log.close()
    assert DeliveredLog.read(tmp_path).of("000001") == Sent()


def test_cut_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    good = json.dumps({"run": "000001", "run_id": "r1"})
    lines = ["not json", "[1]", '{"run_id": "x"}', '{"run": "000002", "tags": 7}', "[" * 100_000, good, good[:-4]]
    (tmp_path / "1.jsonl").write_text("\n".join(lines))
    (tmp_path / "2.jsonl").mkdir()
    assert DeliveredLog.read(tmp_path).of("000001").run_id == "r1"
    assert DeliveredLog.read(tmp_path / "missing").runs == {}


def test_where_nothing_can_be_written_it_is_known_to_this_process(tmp_path: Path) -> None:
    log = DeliveredLog(tmp_path / "missing")
    log.note("000001", {"run_id": "r1"})
    assert log.of("000001").run_id == "r1"


def test_only_one_process_delivers_at_a_time(tmp_path: Path) -> None:
    with only_writer(tmp_path / "log"), pytest.raises(BusyError), only_writer(tmp_path / "log"):
        pass
    with only_writer(tmp_path / "log"):
        pass


def test_each_server_has_a_log_of_its_own_whatever_the_password(tmp_path: Path) -> None:
    search = Told.begin(tmp_path).folder
    here = memory_folder(search, "https://u:secret@one.example:5000")
    assert here == memory_folder(search, "https://u:new@one.example:5000")
    assert here != memory_folder(search, "https://two.example:5000")
    assert "secret" not in str(here)
