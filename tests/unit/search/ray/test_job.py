"""What is sent to a cluster, the address that it is sent to, and what the head answers."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.search.ray.job import JobToSend, check_dashboard, dashboard_address, sent, staged
from prune_search.search.ray.token import MODE, TOKEN, TOKEN_PATH


def test_the_printed_command_does_the_same_and_shows_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "secret")
    monkeypatch.setenv(TOKEN_PATH, "/keys/my token")
    monkeypatch.setenv(MODE, "token")
    words = ("launch", "my space.yaml", "--address", "auto")
    job = JobToSend("http://head:8265", words, tmp_path, {"DO_NOT_TRACK": "1"})
    typed = shlex.split(job.command())
    assert typed[:2] == ["RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN_PATH=/keys/my token"]
    assert typed[2:7] == ["ray", "job", "submit", "--address", "http://head:8265"]
    assert json.loads(typed[typed.index("--runtime-env-json") + 1]) == job.runtime_env()
    assert typed[typed.index("--") + 1 :] == ["python", "-m", "prune_search", *words]
    assert shlex.split(job.entrypoint) == ["python", "-m", "prune_search", *words]
    assert "secret" not in job.command()
    assert job.runtime_env()["working_dir"] == str(tmp_path)
    assert "working_dir" not in JobToSend("http://head:8265", words).runtime_env()
    assert any("ray job stop raysubmit_1 --address http://head:8265" in line for line in sent(job, "raysubmit_1"))


def test_one_file_travels_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "space.yaml").write_text("preset: snip\n")
    (tmp_path / "secret").touch()
    folder = staged(tmp_path / "space.yaml")
    assert [path.name for path in folder.iterdir()] == ["space.yaml"]
    assert staged(tmp_path / "space.yaml") == folder


def test_an_address_is_completed_and_what_is_no_dashboard_is_refused() -> None:
    assert dashboard_address("head") == "http://head:8265"
    assert dashboard_address("head:8000") == "http://head:8000"
    assert dashboard_address("https://head/") == "https://head:8265"
    for text in ("ray://head:10001", "http://user:secret@head:8265", "http://head:8265/path", "http://"):
        with pytest.raises(UserError) as refused:
            dashboard_address(text)
        assert refused.value.problems[0].path == "--address"
        assert "secret" not in str(refused.value)


class Answers(BaseHTTPRequestHandler):
    """A head that knows one token."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.send_response({None: 401, "Bearer right": 200, "Bearer odd": 418}.get(given, 403))
        self.end_headers()
        self.wfile.write(b'{"ray_version": "2.60.0"}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def head() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_head_lets_in_who_has_its_token(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_PATH, "/keys/mine")
    monkeypatch.delenv(TOKEN, raising=False)
    assert check_dashboard(head, {"Authorization": "Bearer right"}) == "2.60.0"
    for token, said in (
        (None, "requires a token"),
        ("wrong", r"refuses the token in \$RAY_AUTH_TOKEN_PATH"),
        ("odd", "answers 418; it is not a Ray dashboard"),
    ):
        with pytest.raises(UserError, match=said):
            check_dashboard(head, {} if token is None else {"Authorization": f"Bearer {token}"})
    with pytest.raises(UserError, match=r"there is no Ray dashboard at http://127\.0\.0\.1:1: "):
        check_dashboard("http://127.0.0.1:1", {})
