"""`prune-search submit`: what is wrong is found before anything is sent, and --dry-run shows what would be."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from command_line import Typed
from real_search import SMALL

from prune_search.search.ray import job

SPACE = f"""\
# prune-search submit tiny.yaml --address http://127.0.0.1:8265
{SMALL}
preset: snip
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}
search: {{trials: 2, concurrency: 2, controls: false}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(SPACE)
    return folder


def test_what_is_wrong_is_found_before_anything_is_sent(
    home: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(home)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    (home / "bad.yaml").write_text(SPACE.replace("preset: snip", "preset: snipp"))
    address, storage = ["--address", "http://127.0.0.1:1"], ["--storage", str(tmp_path)]
    for words, reason in (
        (
            ["tiny.yaml", *address, "--storage", "store"],
            "--storage: must be s3://BUCKET/PREFIX or the absolute path of a folder that every",
        ),
        (
            ["tiny.yaml", "--address", "ray://head:10001", *storage],
            "(ray:// is for prune-search launch",
        ),
        (["tiny.yaml", "--address", "http://user:secret@head:8265", *storage], "put a token into a file"),
        (["bad.yaml", *address, *storage], "did you mean 'snip'?"),
        (["tiny.yaml", *address, *storage, "--trails", "3"], "No such option"),
        (["tiny.yaml", *address, *storage, "--working-dir", "nowhere"], "--working-dir: is not a folder"),
        (["tiny.yaml", *address, *storage], "there is no Ray dashboard at http://127.0.0.1:1"),
    ):
        said = typed("submit", *words)
        assert said.code == 2, said.err
        assert reason in said.err
        assert "secret" not in said.err
    monkeypatch.setattr(job, "_lacks_client", lambda: True)
    said = typed("submit", "tiny.yaml", *address, *storage)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "submit needs ray[default]: install it with pip install 'prune-search[cluster]'" in said.err


def test_a_dry_run_prints_the_job_with_the_folder_that_travels(
    home: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    place = ("--address", "http://head:8265", "--storage", "/shared/store")
    said = typed("submit", "tiny.yaml", *place, "--trials", "3", "--model", "mynet:net", "--dry-run")
    assert (said.code, said.err) == (0, "")
    words = shlex.split(said.out)
    assert words[:3] == ["ray", "job", "submit"]
    after = words[words.index("prune_search") + 1 :]
    assert after[:2] == ["launch", "tiny.yaml"]
    assert after[after.index("--address") + 1] == "auto"
    assert after[after.index("--storage") + 1] == "/shared/store"
    assert {"--trials", "3", "mynet:net"} <= set(after)
    assert str(home) in said.out
    said = typed("submit", "monday", "--resume", *place, "--dry-run")
    assert "resume monday --address auto" in said.out


def test_the_space_must_lie_in_the_folder_that_is_shipped(
    home: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(home)
    place = ("--address", "http://head:8265", "--storage", "/shared/store")
    said = typed("submit", "tiny.yaml", *place, "--working-dir", str(tmp_path / "code"), "--dry-run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--working-dir: 'tiny.yaml' is outside the shipped folder" in said.err
