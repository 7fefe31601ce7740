"""A search folder from elsewhere (row A7): records are data, no pickle is opened, no code that it names runs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Typed
from real_mlflow import MLFLOW_WARNINGS
from real_search import SMALL, troubles

import prune_search
from prune_search import Options, Where
from prune_search.api.trust import launched_here, remember
from prune_search.ledger.tracking_uri import default_uri

pytestmark = [pytest.mark.security, MLFLOW_WARNINGS]

SPACE = f"""\
# prune-search launch own.yaml
{SMALL}
preset: snip
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}
search: {{trials: 2, concurrency: 2, controls: false}}
"""
# A model of the user's own that leaves a mark whenever it is imported.
MODULE = """\
import os
from pathlib import Path

import torch

Path(os.environ["PRUNE_SEARCH_TEST_MARK"]).touch()


def net(shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, classes))
"""
PICKLED_NAMES = (
    "tuner.pkl",
    "searcher-state.pkl",
    "trainable.pkl",
    "experiment_state-1.json",
    "study.pkl",
    "data.pkl",
    "checkpoint.pt",
    "model.pt",
    "recipe.pkl",
)


def pickle_of(canary: Path) -> bytes:
    """A pickle (protocol 0) that makes the canary when it is loaded."""
    return b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the user's module makes; the module lies where the next commands are typed."""
    mark = tmp_path / "mark"
    monkeypatch.setenv("PRUNE_SEARCH_TEST_MARK", str(mark))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "marking.py").write_text(MODULE)
    (tmp_path / "home" / "own.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "me"))
    yield mark
    forget()


def forget() -> None:
    """The module is as new to this process as to one that begins."""
    sys.modules.pop("marking", None)


@pytest.mark.slow
def test_a_foreign_search_runs_no_code_that_is_not_named_again(mark: Path, tmp_path: Path, typed: Typed) -> None:
    # Simulated trials need no Ray; what search.json names is the same.
    storage = ["--storage", str(tmp_path / "store")]
    names = ["--model", "marking:net"]
    assert typed("launch", "own.yaml", *names, *storage, "--simulate", "--trials", "2").code == 0
    definition = tmp_path / "store" / "searches" / "own" / "search.json"
    content = json.loads(definition.read_text())
    assert content["code"]["model"] == "marking:net"
    # As if it had been trained: nothing of it says so but this.
    del content["simulated"]
    definition.write_text(json.dumps(content))
    forget()
    mark.unlink(missing_ok=True)
    for verb in (["resume", "own"], ["export", "own", "--to", "best"], ["resume", "own", "--fork", "--name", "other"]):
        said = typed(*verb, *storage)
        assert (said.code, said.err.count("\n")) == (2, 1), said.err
        assert "own: this search uses custom code and was not launched by you on this machine" in said.err
        assert "Review the code, then pass --model marking:net" in said.err
    for verb in (["compare", "own"], ["status", "own"], ["list"], ["sync", "own"]):
        assert "custom code" not in typed(*verb, *storage).err
    assert not mark.exists()
    assert not (tmp_path / "home" / "best").exists()
    wrong = typed("export", "own", "--to", "best", "--model", "posixpath:join", *storage)
    assert wrong.code == 2
    assert "--model: the search was launched with 'marking:net' (got 'posixpath:join')" in wrong.err
    assert not mark.exists()
    assert typed("export", "own", "--to", "best", *names, *storage).code == 0
    assert mark.exists()


@pytest.mark.slow
def test_a_search_of_ones_own_finds_its_code(mark: Path, tmp_path: Path, typed: Typed) -> None:
    storage = ["--storage", str(tmp_path / "store")]
    words = ["launch", "own.yaml", "--model", "marking:net", "--simulate", "--trials", "1", *storage]
    assert typed(*words).code == 0
    definition = tmp_path / "store" / "searches" / "own" / "search.json"
    content = json.loads(definition.read_text())
    assert launched_here(content)
    # As if it had been trained, and launched by this user.
    del content["simulated"]
    definition.write_text(json.dumps(content))
    assert not launched_here(content)
    remember(content)
    assert typed("export", "own", "--to", "best", *storage).code == 0
    # The same records before another user.
    shutil.rmtree(tmp_path / "me")
    assert "pass --model marking:net" in typed("export", "own", "--to", "best", *storage).err


@pytest.mark.slow
def test_a_foreign_search_is_given_no_credentials_of_this_user(
    mark: Path, tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = ["--storage", str(tmp_path / "store")]
    assert typed("launch", "own.yaml", *storage, "--simulate", "--trials", "2").code == 0
    definition = tmp_path / "store" / "searches" / "own" / "search.json"
    content = json.loads(definition.read_text())
    content["tracking_uri"] = "http://attacker.invalid"
    definition.write_text(json.dumps(content))
    for verb in ("resume", "sync"):
        said = typed(verb, "own", *storage)
        assert (said.code, said.err.count("\n")) == (2, 1), said.err
        assert "own: this search would report to http://attacker.invalid with your credentials" in said.err
        assert "pass --tracking-uri http://attacker.invalid" in said.err
    assert "was launched with" in typed("resume", "own", "--tracking-uri", "http://other.invalid", *storage).err
    # A team names its MLflow once, for all that it looks at.
    content["tracking_uri"] = uri = default_uri(tmp_path / "team")
    (tmp_path / "team").mkdir()
    definition.write_text(json.dumps(content))
    assert typed("sync", "own", *storage).code == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert typed("sync", "own", *storage).code == 0


@pytest.mark.slow
def test_records_of_another_shape_are_refused_in_one_line(mark: Path, tmp_path: Path, typed: Typed) -> None:
    storage = ["--storage", str(tmp_path / "store")]
    assert typed("launch", "own.yaml", *storage, "--simulate", "--trials", "1").code == 0
    definition = tmp_path / "store" / "searches" / "own" / "search.json"
    content = json.loads(definition.read_text())
    wrong = [("code", []), ("code", {"model": 7}), ("tracking_uri", None), ("text", {}), ("id", 4)]
    for key, value in wrong:
        definition.write_text(json.dumps({**content, key: value}))
        for verb in ("resume", "sync"):
            said = typed(verb, "own", *storage)
            assert (said.code, said.err.count("\n")) == (2, 1), said.err
            assert said.err.startswith(f"prune-search: own: {key}")


def test_no_pickle_in_a_search_folder_is_opened(
    mixed: prune_search.Outcome, trouble: Path, tmp_path: Path, typed: Typed
) -> None:
    canary, store = tmp_path / "canary", tmp_path / "store"
    original = Path(str(mixed.records.folder)).parent.parent
    shutil.copytree(original / "searches" / "mixed", store / "searches" / "mixed")
    shutil.copytree(original / "vertices", store / "vertices")
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for folder in folders:
        for name in PICKLED_NAMES:
            (folder / name).write_bytes(pickle_of(canary))
    for path in store.rglob("*.safetensors"):
        path.write_bytes(pickle_of(canary))
    assert len(folders) > 20
    storage = ["--storage", str(store)]
    assert typed("compare", "mixed", *storage).code == 0
    assert typed("status", "mixed", *storage).code == 0
    assert typed("storage", *storage).code == 0
    assert typed("export", "mixed", "--to", str(tmp_path / "best"), "--trial", "snip", *storage).code in (0, 2)
    with troubles():
        assert typed("export", "mixed", "--to", str(tmp_path / "best"), *storage).code == 0
        uri = default_uri(store)
        resumed = prune_search.resume("mixed", where=Where(storage=store), options=Options(tracking_uri=uri))
    assert resumed.as_data()["trials"]["completed"] == mixed.as_data()["trials"]["completed"]
    assert not canary.exists()
