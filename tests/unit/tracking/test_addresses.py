"""The address of a search's table in MLflow, as far as it is served."""

from __future__ import annotations

import json
from pathlib import Path

from told_search import Told

from prune_search.tracking.addresses import table_address
from prune_search.tracking.delivered_log import DeliveredLog, memory_folder


def test_it_is_known_once_something_has_reached_mlflow_and_leads_to_where_it_is_served(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    records = told.records
    assert table_address(records, "http://127.0.0.1:5001") is None
    folder = memory_folder(records.folder, records.tracking_uri)
    folder.mkdir(parents=True)
    log = DeliveredLog(folder)
    log.note_experiment("7")
    log.note_experiment("7")
    log.close()
    (file,) = folder.glob("*.jsonl")
    assert file.read_text() == '{"experiment":"7"}\n', "the same number is kept once"
    identity = records.definition["id"]
    where = f"#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey={identity}"
    assert table_address(records, "http://127.0.0.1:5001/") == f"http://127.0.0.1:5001/{where}"
    assert table_address(records) is None, "nobody serves files"


def test_no_password_is_shown(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    file = told.folder / "search.json"
    definition = {**json.loads(file.read_text()), "tracking_uri": "https://ada:secret@mlflow.example"}
    file.write_text(json.dumps(definition))
    records = told.records
    folder = memory_folder(records.folder, records.tracking_uri)
    folder.mkdir(parents=True)
    log = DeliveredLog(folder)
    log.note_experiment("1")
    log.close()
    address = table_address(records) or ""
    assert address.startswith("https://")
    assert "secret" not in address
