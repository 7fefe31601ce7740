"""What the name of a storage means, and where lies what an object store cannot hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from object_store import KEY_ID, SECRET

from prune_search.recipe.problems import UserError
from prune_search.storage.files import side_folder
from prune_search.storage.places import below, ensure_home, local_folder, place_of, state_home


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3://B/x", "s3://bucket/../x", "s3://bucket/a/./b", "s3://bucket/a\nb", "s3://bucket/a?b", "gs://b/x"],
)
def test_what_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="--storage: must be"):
        place_of(url)


def test_credentials_in_a_name_are_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="AWS_ACCESS_KEY_ID") as failure:
        place_of(f"s3://{KEY_ID}:{SECRET}@bucket/store")
    assert SECRET not in str(failure.value)
    assert KEY_ID not in str(failure.value)


def test_places_have_names(tmp_path: Path) -> None:
    assert str(place_of("s3://bucket/a//b/")) == "s3://bucket/a/b"
    assert str(place_of("s3://bucket")) == "s3://bucket"
    assert place_of(str(tmp_path)) == tmp_path
    assert side_folder(tmp_path) == tmp_path
    sides = {side_folder(place_of(url)) for url in ("s3://bucket/a", "s3://bucket/b")}
    assert len(sides) == 2


def test_places_below_are_of_the_same_kind(tmp_path: Path) -> None:
    assert below(tmp_path, "a", "b") == tmp_path / "a" / "b"
    assert str(below(place_of("s3://bucket/a"), "b", "c")) == "s3://bucket/a/b/c"


@pytest.mark.parametrize("address", ["s3://bucket/a", "gs://bucket/a", "https://host/a"])
def test_an_address_is_no_folder_of_this_machine(address: str) -> None:
    assert local_folder(Path("a/b"), "--out") == Path("a/b")
    with pytest.raises(UserError, match="--out: must be a folder on this machine"):
        local_folder(Path(address), "--out")


def test_the_folder_of_the_user_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_home() == tmp_path / "prune-search"
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    assert state_home() == Path.home() / ".local" / "state" / "prune-search"


def test_who_has_no_home_is_given_one_for_libraries_and_notes_are_refused_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a process of its own: a container's user is a number that no name belongs to, and ``$HOME`` is not set."""
    code = """
import os, pwd, sys
pwd.getpwuid = lambda number: (_ for _ in ()).throw(KeyError(number))
from pathlib import Path
from prune_search.storage import places
places.ensure_home(); home = Path.home(); places.ensure_home()
assert Path.home() == home and home.stat().st_mode & 0o777 == 0o700
try:
    places.state_home()
except places.UserError as error:
    print(error)
os.environ["XDG_STATE_HOME"] = "/state"
print(places.state_home(), home)
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_STATE_HOME")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    refused, allowed = done.stdout.splitlines()
    assert refused.endswith("set HOME or XDG_STATE_HOME to a folder")
    state, home = allowed.split()
    assert state == "/state/prune-search"
    assert not Path(home).exists(), "a home that was lent is left behind"


def test_a_home_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for home in (str(tmp_path), "/", "/not/there"):
        monkeypatch.setenv("HOME", home)
        ensure_home()
        assert os.environ["HOME"] == home


def test_a_name_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(UserError, match=r"--storage: must be a name in UTF-8"):
        place_of(os.fsdecode(b"/tmp/\xff\xfe"))
