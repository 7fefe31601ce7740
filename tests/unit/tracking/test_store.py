"""Tracking URIs, what is shown of them, and the command that shows MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from prune_search.ledger.tracking_uri import default_uri
from prune_search.ledger.uris import masked, without_credentials
from prune_search.recipe.problems import UserError
from prune_search.tracking.names import allowed, allowed_params, written
from prune_search.tracking.store import Serving, absolute_uri, artifact_root, ui_command, ui_environment


def test_the_default_is_a_database_in_the_storage(tmp_path: Path) -> None:
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute_uri("", tmp_path) == default_uri(tmp_path)
    assert artifact_root(tmp_path, default_uri(tmp_path)) == tmp_path / "mlartifacts"
    assert artifact_root(tmp_path, "http://localhost:5000") is None


def test_a_relative_database_means_the_same_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///runs.db", tmp_path) == f"sqlite:///{tmp_path}/runs.db"
    assert absolute_uri(f"sqlite:///{tmp_path}/runs.db", Path("/elsewhere")) == f"sqlite:///{tmp_path}/runs.db"


@pytest.mark.parametrize(
    "uri", ["http://localhost:5000", "https://mlflow.example/path", "postgresql://me@db/mlflow", "databricks"]
)
def test_servers_and_databases_stay_as_they_are(uri: str, tmp_path: Path) -> None:
    assert absolute_uri(uri + ("/" if "//" in uri else ""), tmp_path) == uri


@pytest.mark.parametrize(
    "uri", ["mlruns", "file:///tmp/mlruns", "ftp://x", "sqlite:///", "sqlite:///:memory:", "me:canary-7@host"]
)
def test_what_mlflow_does_not_take_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tracking-uri: must ") as caught:
        absolute_uri(uri, tmp_path)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "advice"),
    [
        ("http://me:canary-7@host", "MLFLOW_TRACKING_PASSWORD"),
        ("https://canary-7@host", "MLFLOW_TRACKING_TOKEN"),
        ("http://me:can/ary-7@host", "MLFLOW_TRACKING_PASSWORD"),
        ("postgresql://me:canary-7@host/db", "PGPASSWORD"),
        ("postgresql://host/db?user=me&password=canary-7", "PGPASSWORD"),
    ],
)
def test_a_password_is_not_stored_with_the_search_and_not_shown(uri: str, advice: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=advice) as caught:
        absolute_uri(uri, tmp_path)
    assert "ary-7" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "uri", "shown"),
    [
        ("error at http://u:p@host/x: no", "", "error at http://***@host/x: no"),
        ("postgresql+psycopg2://u:p%40w@h/db failed", "", "postgresql+psycopg2://***@h/db failed"),
        ("login of u with s3cret@7 failed", "http://u:s3cret%407@h", "login of u with *** failed"),
        ("postgresql://h/db?password=abcd&x=1", "", "postgresql://h/db?password=***&x=1"),
        ("sqlite:////home/a@b/mlflow.db", "", "sqlite:////home/a@b/mlflow.db"),
        ("nothing to hide at http://host:5000", "http://host:5000", "nothing to hide at http://host:5000"),
    ],
)
def test_passwords_are_masked_wherever_they_stand(text: str, uri: str, shown: str) -> None:
    assert masked(text, uri) == shown


def test_an_address_is_the_same_with_and_without_credentials() -> None:
    assert without_credentials("http://me:secret@host/a") == without_credentials("http://host/a") == "http://host/a"


def test_the_command_listens_on_this_machine_alone(tmp_path: Path) -> None:
    command = ui_command(tmp_path, default_uri(tmp_path), Serving(port=5001))
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--workers") + 1] == "1"
    assert "localhost:5001" in command[command.index("--allowed-hosts") + 1].split(",")
    assert command[command.index("--artifacts-destination") + 1] == f"file://{tmp_path}/mlartifacts"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "node7.example", "localhost.example"])
def test_another_host_needs_names_by_which_it_may_be_called(host: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--allowed-hosts"):
        ui_command(tmp_path, default_uri(tmp_path), Serving(host))
    command = ui_command(tmp_path, default_uri(tmp_path), Serving(host, allowed_hosts="mlflow.example:5000"))
    assert command[command.index("--allowed-hosts") + 1] == "mlflow.example:5000"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "::1"])
def test_this_machine_needs_none(host: str, tmp_path: Path) -> None:
    assert host in ui_command(tmp_path, default_uri(tmp_path), Serving(host))


def test_a_server_shows_itself(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"open http://\*\*\*@mlflow.example in a browser"):
        ui_command(tmp_path, "http://me:secret@mlflow.example")


def test_a_password_of_the_database_is_no_argument(tmp_path: Path) -> None:
    uri = "postgresql://me:canary-7@db/mlflow"
    assert "canary" not in " ".join(ui_command(tmp_path, uri))
    environment = ui_environment(tmp_path, uri)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("mask.sparsity", "mask.sparsity"),
        ("val/accuracy", "val/accuracy"),
        ("weights.transform.0.name", "weights.transform.0.name"),
        ("train.optimizer.β(1)", "train.optimizer.__1_"),
        ("a//b", "a__b"),
        ("../x", "__x"),
        ("/x", "_x"),
        ("..", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_become_names_that_mlflow_takes(name: str, taken: str) -> None:
    assert allowed(name) == taken


def test_names_that_become_alike_stay_two() -> None:
    assert allowed_params([("a(b", "1"), ("a)b", "2"), ("a b", "x" * 7000)]) == {
        "a_b": "1",
        "a_b-2": "2",
        "a b": "x" * 5999 + "…",
    }


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), (3, "3"), (True, "true"), (None, "null"), ("2ep", "2ep")])
def test_values_are_written_as_in_a_recipe(value: object, text: str) -> None:
    assert written(value) == text
