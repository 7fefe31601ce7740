"""Row A5: Ray as our files start it answers nobody without its token, whose file is its owner's alone."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from protected_head import NEEDS_DASHBOARD, Head, start_ray

from prune_search.search.ray import token

pytestmark = pytest.mark.security


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@NEEDS_DASHBOARD
def test_the_head_answers_401_403_and_200(head: Head) -> None:
    assert mode(head.token) == 0o600
    for path in ("/api/version", "/api/jobs/", "/nodes?view=summary", "/api/v0/tasks"):
        answers = [head.answer(path, given) for given in (None, "a-wrong-token-0123456789", head.token.read_text())]
        assert answers == [401, 403, 200], path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", "0.0.0.0"])
def test_no_node_is_started_without_a_token_that_is_its_owners_alone(address: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**kept, "HOME": str(tmp_path), "RAY_NODE_ADDRESS": address}
    log = tmp_path / "ray.log"
    for verb in (("head",), ("worker", "192.0.2.1:6379")):
        assert start_ray(*verb, environment=environment).wait(30) == 2
    assert "without a token anyone could run anything here" in log.read_text()
    environment["RAY_AUTH_TOKEN_PATH"] = str(file)
    assert start_ray("head", environment=environment).wait(30) == 2
    assert f"{file} holds no token" in log.read_text()
    assert start_ray("token", environment=environment).wait(30) == 0
    assert mode(file) == 0o600
    assert len(file.read_text()) == 64
    made = file.read_text()
    assert start_ray("token", environment=environment).wait(30) == 2
    assert file.read_text() == made, "a token in use is not replaced"
    file.chmod(0o640)
    assert start_ray("head", environment=environment).wait(30) == 2
    assert f"{file} can be read by others (mode 640)" in log.read_text()
    assert made not in log.read_text()


def test_the_token_of_a_ray_on_this_machine_is_its_owners_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / ".ray" / "auth_token"
    token.make_token()
    assert mode(file) == 0o600
    made = file.read_text()
    assert len(made) == 64
    # As Ray writes it.
    file.chmod(0o644)
    token.make_token()
    assert (mode(file), file.read_text()) == (0o600, made)
    # It is not sent to another cluster just because it is there.
    assert token.read_token({}) is None
    assert token.read_token({"RAY_AUTH_MODE": "token"}) == made
    file.unlink()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    token.make_token()
    assert not file.exists()
