"""Row A6: credentials in every URI and variable that is read, and none of them in anything that is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import Typed
from object_store import BUCKET, KEY_ID, SECRET, ObjectStore
from real_mlflow import MLFLOW_WARNINGS
from real_search import SMALL, troubles

from prune_search.storage.files import side_folder
from prune_search.storage.object_paths import ObjectPath

pytestmark = [pytest.mark.security, MLFLOW_WARNINGS]

CANARIES = {
    "MLFLOW_TRACKING_USERNAME": "canary-tracking-user",
    "MLFLOW_TRACKING_PASSWORD": "canary-tracking-password",
    "MLFLOW_TRACKING_TOKEN": "canary-tracking-token",
    "PGPASSWORD": "canary-pg-password",
    "AWS_SESSION_TOKEN": "canary-session-token",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "canary-admin-password",
    "RAY_AUTH_TOKEN": "canary-ray-token-0123456789",
    "HF_TOKEN": "canary-hub-token",
}
IN_URIS = "canary-in-a-uri"
SPACE = f"""\
# prune-search launch secret.yaml
{SMALL}
preset: snip
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}
search: {{trials: 2, concurrency: 2, controls: false}}
"""


def test_no_credential_is_in_anything_that_a_search_writes(
    object_store: ObjectStore,
    trouble: Path,
    typed: Typed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret.yaml").write_text(SPACE)
    monkeypatch.chdir(home)
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    storage = f"s3://{BUCKET}/store"
    said: list[str] = []

    def type_it(*words: str, code: int = 0) -> None:
        answer = typed(*words)
        said.extend((answer.out, answer.err))
        assert answer.code == code, answer.err

    with troubles(), caplog.at_level("DEBUG", logger="prune_search"):
        type_it("launch", "secret.yaml", "--storage", storage)
        type_it("resume", "secret", "--storage", storage)
    for verb in ("status", "compare", "list", "storage"):
        names = ["secret"] if verb in ("status", "compare") else []
        type_it(verb, *names, "--storage", storage, "--json")
    type_it("sync", "secret", "--storage", storage)
    type_it("export", "secret", "--to", "best", "--storage", storage)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    type_it("doctor", "--storage", storage)
    type_it("submit", "secret.yaml", "--address", "http://head:8265", "--storage", storage, "--dry-run")
    # Those that carry one are refused, and do not repeat it.
    for words in (
        ("launch", "secret.yaml", "--storage", storage, "--tracking-uri", f"http://me:{IN_URIS}@host:5000"),
        ("launch", "secret.yaml", "--storage", storage, "--tracking-uri", f"postgresql://me:{IN_URIS}@host/db"),
        ("launch", "secret.yaml", "--storage", f"s3://key:{IN_URIS}@{BUCKET}/x"),
        ("submit", "secret.yaml", "--storage", storage, "--address", f"http://me:{IN_URIS}@head:8265"),
        ("doctor", "--storage", storage, "--tracking-uri", f"https://{IN_URIS}@host"),
        ("ui", "--storage", storage, "--tracking-uri", f"mysql://me:{IN_URIS}@host/db"),
        ("sync", "secret", "--storage", storage, "--tracking-uri", f"http://me:{IN_URIS}@host:1"),
    ):
        answer = typed(*words)
        said.extend((answer.out, answer.err))
        assert answer.code in (2, 3), answer.err
    files = [path for path in ObjectPath(BUCKET).walk() if path.is_file()]
    written = {str(path): path.read_bytes() for path in files}
    state = Path(os.environ["XDG_STATE_HOME"])
    for folder in (side_folder(ObjectPath.parse(storage)), state, home):
        written |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(name.endswith("mlflow.db") for name in written), "MLflow's params, tags and metrics are among them"
    assert any(name.endswith("recipe.yaml") and "mlartifacts" in name for name in written)
    assert any(name.endswith("search.json") for name in written)
    written["what was said"] = "".join(said).encode()
    written["the log"] = caplog.text.encode()
    canaries = [*CANARIES.values(), KEY_ID, SECRET, IN_URIS]
    found = [(name, canary) for name, data in written.items() for canary in canaries if canary.encode() in data]
    assert found == []
