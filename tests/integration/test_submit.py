"""`submit` and `launch --address` before a head that asks for a token, on this machine."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Said
from protected_head import NEEDS_DASHBOARD, Head
from real_search import SMALL

from prune_search.ledger.records import read_search

SPACE = f"""\
# prune-search submit tiny.yaml --address http://127.0.0.1:8265
{SMALL}
preset: snip
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}
search: {{trials: 2, concurrency: 1, controls: false}}
"""
MODULE = """\
import torch


def net(shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, classes))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the commands are typed: a space, code of the user's own, and what must not travel."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(SPACE)
    (folder / "mynet.py").write_text(MODULE)
    (folder / ".env").write_text("SECRET=canary\n")
    return folder


def type_it(head: Head, home: Path, token: str | None, *words: str) -> Said:
    command = [sys.executable, "-m", "prune_search", *words]
    # The head knows neither the package nor the user's code: both travel.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=head.environment(token), cwd=home, timeout=300
    )
    return Said(done.returncode, done.stdout, done.stderr)


@NEEDS_DASHBOARD
def test_without_or_with_a_wrong_token_nothing_is_sent(head: Head, home: Path, tmp_path: Path) -> None:
    words = ["submit", "tiny.yaml", "--address", head.dashboard, "--storage", str(tmp_path / "store")]
    without = type_it(head, home, None, *words)
    assert (without.code, without.err.count("\n")) == (2, 1), without.err
    assert f"--address: {head.dashboard} requires a token: put the cluster's token into a file" in without.err
    wrong = type_it(head, home, "a-wrong-token-0123456789", *words)
    assert (wrong.code, wrong.err.count("\n")) == (2, 1), wrong.err
    assert f"--address: {head.dashboard} refuses the token in $RAY_AUTH_TOKEN" in wrong.err
    assert "a-wrong-token" not in wrong.out + wrong.err
    assert not (tmp_path / "store").exists()


@NEEDS_DASHBOARD
def test_with_the_token_the_search_runs_with_the_users_code(head: Head, home: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = ["tiny.yaml", "--address", head.dashboard, "--storage", str(store), "--model", "mynet:net"]
    said = type_it(head, home, "right", "submit", *words, "--set", "search.trials=2", "--name", "sent")
    assert said.code == 0, said.err + said.out
    assert "sent: 2 completed in " in said.out
    assert "SUCCEEDED" in said.err
    records = read_search(store / "searches" / "sent")
    assert records.definition["code"]["model"] == "mynet:net"
    # The plain command that does the same is printed, and carries no token.
    line = next(line for line in said.err.splitlines() if "equivalent to: " in line)
    typed = shlex.split(line.partition("equivalent to: ")[2])
    assert typed[:2] == ["RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN_PATH={head.token}"]
    assert typed[2:5] == ["ray", "job", "submit"]
    environment = json.loads(typed[typed.index("--runtime-env-json") + 1])
    assert environment["working_dir"] == str(home)
    assert ".env" in environment["excludes"]
    assert head.token.read_text() not in said.out + said.err


@NEEDS_DASHBOARD
@pytest.mark.long
def test_the_search_goes_on_when_the_terminal_is_gone(head: Head, home: Path, tmp_path: Path) -> None:
    from real_search import wait_for

    words = ["submit", "tiny.yaml", "--address", head.dashboard, "--storage", str(tmp_path / "store"), "--no-wait"]
    said = type_it(head, home, "right", *words)
    assert said.code == 0, said.err
    assert said.out.startswith("raysubmit_")
    assert f"ray job stop {said.out.strip()}" in said.err
    wait_for(lambda: (tmp_path / "store" / "searches" / "tiny" / "ended.json").exists(), 180)


@NEEDS_DASHBOARD
@pytest.mark.slow
def test_launch_at_an_address_ships_package_and_code_as_well(head: Head, home: Path, tmp_path: Path) -> None:
    words = ["launch", "tiny.yaml", "--address", head.address, "--storage", str(tmp_path / "store")]
    without = type_it(head, home, None, *words)
    assert without.code == 2
    assert "refuses the connection, or is not a Ray cluster" in without.err
    assert "put the cluster's token into a file" in without.err.splitlines()[-1]
    said = type_it(head, home, "right", *words, "--model", "mynet:net")
    assert said.code == 0, said.err + said.out
    assert "tiny: 2 completed" in said.out
