"""The command line of searches: what is printed, and the exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import Said, Typed
from real_mlflow import MLFLOW_WARNINGS
from real_search import SMALL, environment, outcome_of
from torch import Tensor

import prune_search
from prune_search.ledger.records import read_search
from prune_search.ledger.tracking_uri import default_uri
from prune_search.recipe.axes import DATASETS
from prune_search.tasks.data import DataSet, Split
from prune_search.trial import data_and_network

pytestmark = MLFLOW_WARNINGS

SPACE = f"""\
# prune-search launch tiny.yaml
{SMALL}
any:
- {{preset: snip, mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}}}
- {{preset: random, mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}}}
search: {{trials: 3, concurrency: 2, constraints: ["model/nonzero <= 0.8 * dense"]}}
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory, trouble: Path) -> tuple[Path, Said]:
    """A search typed in a terminal, with Ray of its own; its folder, and what was printed."""
    home = tmp_path_factory.mktemp("home")
    (home / "tiny.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "prune_search", "launch", "tiny.yaml", "--storage", "my store"]
    command += ["--set", "search.seed=4", "--concurrency", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(trouble), cwd=home)
    return home, Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def store(launched: tuple[Path, Said], tmp_path: Path) -> Path:
    """A copy of the storage, which the test may change; it is the one that `typed` looks at."""
    shutil.copytree(launched[0] / "my store" / "searches", tmp_path / "searches")
    shutil.copytree(launched[0] / "my store" / "vertices", tmp_path / "vertices")
    return tmp_path


def test_launch_ends_with_the_leaderboard_and_what_can_be_typed_next(launched: tuple[Path, Said]) -> None:
    home, said = launched
    assert said.code == 0, said.err
    names = [
        trial.proposed.data["name"]
        for trial in read_search(home / "my store/searches/tiny").numbered()
        if trial.proposed
    ]
    assert len(names) == 3
    for name in names:
        assert name in said.out
        assert f"{name}  completed  val/accuracy 0." in said.err
    for control in ("control-dense", "control-dense-long", "control-shuffle"):
        assert control in said.out
    # As it was called here.
    program = f"{Path(sys.executable).name} -m prune_search"
    assert f"next  {program} export tiny --to DIR --storage 'my store'" in said.out
    assert f"next  {program} ui --storage 'my store'" in said.out
    assert "tiny: 3 completed in " in said.out.splitlines()[-1]
    assert "Traceback" not in said.err
    assert "Warning" not in said.err


def test_what_a_constraint_names_is_measured_of_every_trial(launched: tuple[Path, Said]) -> None:
    records = read_search(launched[0] / "my store/searches/tiny")
    assert records.dense is not None
    for trial in records.numbered():
        # The biases are there besides.
        kept = records.dense["model/nonzero"] * (1 - trial.metrics["sparsity"])
        assert kept <= trial.metrics["model/nonzero"] <= kept + 200
    assert "model/parameters" not in records.dense


def test_launch_as_json_is_one_object(
    trouble: Path, launched: tuple[Path, Said], store: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trained is stored already, by the search of the terminal."""
    home, _ = launched
    monkeypatch.chdir(home)
    words = ["launch", "tiny.yaml", "--set", "search.seed=4", "--trials", "2", "--concurrency", "1", "--json"]
    said = typed(*words, "--name", "second", "--tracking-uri", "sqlite:///my store/mlflow.db")
    assert said.code == 0
    data = json.loads(said.out)
    assert set(data) >= {
        *("name", "storage", "tracking_uri", "experiment", "parent_run_id", "trials", "best", "pareto"),
        *("steps_trained", "steps_saved", "wall_s"),
    }
    assert (data["name"], data["storage"]) == ("second", str(store))
    assert data["tracking_uri"] == default_uri(home / "my store")
    assert data["experiment"] == read_search(store / "searches/second").definition["experiment"]
    assert data["trials"] == {"completed": 2, "stopped": 0, "failed": 0, "duplicates": 0}
    assert set(data["best"]) >= {"key", "paradigm", "metrics"}
    assert data["best"]["key"] in {trial["key"] for trial in data["pareto"]}
    first, second = (read_search(store / "searches" / name) for name in ("tiny", "second"))
    for trial in second.numbered():
        assert outcome_of(trial)["result"] == outcome_of(first.trials[trial.id])["result"]
    numbered = [trial.ended.data for trial in second.numbered() if trial.ended is not None]
    assert sum(ended["steps_trained"] for ended in numbered) == 0
    assert sum(ended["steps_saved"] for ended in numbered) == 2 * 27

    said = typed(*words, "--name", "second")
    assert (said.code, said.out) == (2, "")
    assert "prune-search resume second" in said.err
    # A search that is over is resumed to the same end.
    assert json.loads(typed("resume", "second", "--json").out)["trials"] == data["trials"]


def test_status_list_compare_and_delete_of_a_search(store: Path, typed: Typed) -> None:
    status = json.loads(typed("status", "tiny", "--json").out)
    assert (status["name"], status["state"]) == ("tiny", "finished")
    assert status["trials"] == {
        **dict.fromkeys(("stopped", "failed", "duplicates", "running", "waiting"), 0),
        "completed": 3,
    }
    listed = json.loads(typed("list", "--json").out)
    assert [row["name"] for row in listed["searches"]] == ["tiny"]
    compared = json.loads(typed("compare", "tiny", "--json").out)
    assert len(compared["rows"]) == 3
    assert {"key", "name", "paradigm", "params", "metrics", "seeds", "delta_dense"} <= set(compared["rows"][0])
    assert {control["name"] for control in compared["controls"]} == {
        *("control-dense", "control-dense-long", "control-shuffle")
    }
    assert typed("delete", "tiny").code == 2
    assert typed("delete", "tiny", "--yes").code == 0
    assert json.loads(typed("list", "--json").out)["searches"] == []
    said = typed("status", "tiny")
    assert (said.code, said.out) == (2, "")


def test_export_as_json_and_with_seeds(store: Path, typed: Typed) -> None:
    said = typed("export", "tiny", "--to", str(store / "best"), "--seeds", "2", "--json")
    assert said.code == 0
    data = json.loads(said.out)
    assert data["folder"] == str(store / "best")
    names = {path.name for path in (store / "best").iterdir()}
    assert names >= {"recipe.yaml", "model.safetensors", "masks.safetensors", "metrics.json", "README.md"}
    card = (store / "best" / "README.md").read_text()
    assert "prune-search run" in card
    assert "±" in card
    said = typed("export", "tiny", "--to", str(store / "other"), "--trial", "no-such-trial")
    assert said.code == 2
    assert "no-such-trial" in said.err


def right(predict: Callable[[Tensor], Tensor], split: object) -> float:
    """The share of a split that is classified correctly."""
    assert isinstance(split, Split)
    return int((predict(split.inputs).argmax(1) == split.labels).sum()) / len(split.labels)


def test_what_is_exported_is_as_accurate_in_torch_onnxruntime_and_mlflow(
    launched: tuple[Path, Said], typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import onnxruntime

    storage, folder = launched[0] / "my store", tmp_path / "best"
    monkeypatch.chdir(tmp_path)
    words = ("--to", str(folder), "--storage", str(storage))
    said = typed("export", "tiny", *words, "--onnx", "--register", "tiny digits", "--json")
    assert said.code == 0, said.err
    data = json.loads(said.out)
    assert data["onnx_apart"] < 1e-4
    test = DATASETS["digits"].build(DataSet, None).test
    expected = pytest.approx(data["metrics"]["test/accuracy"], abs=1e-9)
    # Without the model's class: from config.json alone.
    monkeypatch.setattr(data_and_network, "build_model", None)
    loaded = prune_search.load(folder)
    with torch.no_grad():
        assert right(loaded.network(), test) == expected
        assert right(loaded.model, test) == expected
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert right(lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), test) == expected
    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", default_uri(storage))
        served = mlflow.pyfunc.load_model("models:/tiny digits@champion")
        assert right(lambda x: torch.from_numpy(served.predict(x.numpy())), test) == expected
        assert served.metadata.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
        # A second export is the next version, and the champion.
        assert (
            json.loads(typed("export", "tiny", *words, "--register", "tiny digits", "--json").out)["registered_version"]
            == "2"
        )
    # Nothing was left where the command was typed.
    assert {path.name for path in tmp_path.iterdir()} == {"best"}
    assert not [path for path in folder.iterdir() if path.suffix in (".pkl", ".pt", ".pth", ".bin")]


def test_the_whole_front_is_exported_each_in_a_folder_of_its_own(store: Path, typed: Typed) -> None:
    said = typed("export", "tiny", "--to", str(store / "front"), "--pareto", "--json")
    assert said.code == 0, said.err
    folders = [Path(item["folder"]) for item in json.loads(said.out)["folders"]]
    assert sorted(folders) == sorted(path for path in (store / "front").iterdir())
    for folder in folders:
        assert prune_search.load(folder).compact is not None
        assert "| compact |" in (folder / "README.md").read_text()
    said = typed("export", "tiny", "--to", str(store / "front"), "--pareto", "--register", "x")
    assert (said.code, "cannot be combined with --pareto" in said.err) == (2, True)


def test_sync_finds_all_delivered(launched: tuple[Path, Said], typed: Typed) -> None:
    said = typed("sync", "tiny", "--storage", str(launched[0] / "my store"), "--json")
    assert said.code == 0
    assert all(value == 0 for key, value in json.loads(said.out).items() if key != "name")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999", "no-such-host.invalid:6379"]
)
def test_a_cluster_that_is_not_there_is_said_at_once(typed: Typed, address: str) -> None:
    said = typed("launch", "quickstart", "--address", address)
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[-1].startswith(f"prune-search: --address: there is no Ray cluster at {address}: ")
    assert "Traceback" not in said.err
    assert json.loads(typed("list", "--json").out)["searches"] == []
