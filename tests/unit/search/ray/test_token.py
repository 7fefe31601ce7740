"""Where the token of a cluster is found, and when it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.search.ray.token import (
    MODE,
    TOKEN,
    TOKEN_PATH,
    default_file,
    open_to_others,
    read_token,
    token_file,
    wanted,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_variable_goes_before_a_file_and_both_before_the_users_own(tmp_path: Path) -> None:
    named = tmp_path / "token"
    named.write_text("named\n")
    default_file().parent.mkdir()
    default_file().write_text("own")
    assert read_token({TOKEN: " typed ", TOKEN_PATH: str(named)}) == "typed"
    assert read_token({TOKEN_PATH: str(named)}) == "named"
    # The user's own token goes to another cluster only where a token is asked for.
    assert read_token({}) is None
    assert read_token({MODE: "token"}) == "own"
    assert token_file({TOKEN: "typed"}) is None
    assert token_file({TOKEN_PATH: str(named)}) == named
    assert token_file({}) == default_file()


def test_a_file_that_is_named_and_holds_no_token_is_refused_without_showing_others(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, said in (("empty", "is empty"), ("missing", "cannot be read")):
        with pytest.raises(UserError, match=said) as refused:
            read_token({TOKEN_PATH: str(tmp_path / name)})
        assert refused.value.problems[0].path == TOKEN_PATH


def test_a_mode_other_than_token_wants_none(tmp_path: Path) -> None:
    assert wanted({})
    assert wanted({MODE: "TOKEN"})
    assert not wanted({MODE: "disabled"})
    file = tmp_path / "token"
    file.touch(mode=0o600)
    assert not open_to_others(file)
    file.chmod(0o640)
    assert open_to_others(file)
