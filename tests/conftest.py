"""What all tests share: one thread, so that a test does not depend on the machine's cores, small setups, and services.

A test that asks for a Ray or an object store is marked `services` here, by the fixtures that it names. One that starts
something itself is marked in its file. With `-n`, the tests of a file stay on one worker, so that what a file sets up
is set up once, and so do all tests that share a Ray, a protected head, or an object store.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Said, Typed
from slow_list import listed

if TYPE_CHECKING:
    from object_store import ObjectStore
    from protected_head import Head
    from real_search import Searches

    from prune_search.api.outcome import Outcome
    from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], "TrialSetup"]
# Fixtures that start a service for the whole session, and the group of the tests that share it. The first that a test
# asks for counts: the shared Ray asks for an object store as well.
SERVICES = {"trouble": "ray", "head": "head", "one_object_store": "object store"}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Read the files without looking for garbage: what they make stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a service, and keep those that share one on one worker; mark what was slow."""
    slow = listed()
    for item in items:
        if item.nodeid in slow:
            item.add_marker(pytest.mark.slow)
        asked = frozenset(getattr(item, "fixturenames", ()))
        if group := next((group for name, group in SERVICES.items() if name in asked), None):
            item.add_marker(pytest.mark.services)
            # Named once: xdist joins the names of several groups to one of its own.
            if item.get_closest_marker("xdist_group") is None:
                item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadgroup`, tests of no group stay with their file."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    found = LoadGroupScheduling(config, log)
    found._split_scope = group_or_file
    return found


def group_or_file(nodeid: str) -> str:
    """What stays on one worker: xdist writes a test's group behind its name, as in ``file.py::test[case]@group``."""
    file, _, name = nodeid.partition("::")
    _, at, group = name.rpartition("]")[2].rpartition("@")
    return group if at else file


@pytest.fixture(autouse=True, scope="session")
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What searches note in the user's folder goes to one of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def setup_of() -> SetupOf:
    """From a recipe's plain data (`preset` allowed) to a setup on the CPU."""
    import torch

    from prune_search.recipe.space import read_space
    from prune_search.trial.setup import prepare

    return lambda raw: prepare(read_space(raw, "a test").only_recipe(), torch.device("cpu"))


@pytest.fixture(scope="session")
def trouble(tmp_path_factory: pytest.TempPathFactory, one_object_store: ObjectStore) -> Iterator[Path]:
    """Ray for all searches in this process; the folder by which a test makes their trials late, or hang."""
    from real_search import running_ray

    folder = tmp_path_factory.mktemp("trouble")
    with running_ray(folder, one_object_store.environment()):
        yield folder


@pytest.fixture(scope="session")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Searches:
    """Where searches of the integration tests lie."""
    from real_search import Searches

    return Searches(tmp_path_factory.mktemp("searches"))


@pytest.fixture(scope="session")
def mixed(searches: Searches, trouble: Path) -> Outcome:
    """Eight trials over four paradigms, reproducible; more than one file looks at them."""
    from real_search import MIXED, troubles

    with troubles():
        return searches.launch(MIXED, "mixed")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type `prune-search VERB …` with the test's folder as storage."""
    from prune_search.cli import main

    monkeypatch.setenv("PRUNE_SEARCH_STORAGE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")

    def type_it(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["prune-search", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return type_it


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """A Ray head of its own that asks for a token, for all tests that need no kill of it."""
    from protected_head import protected_head

    with protected_head() as head:
        yield head


@pytest.fixture(scope="session")
def one_object_store() -> Iterator[ObjectStore]:
    """An S3 service for all tests."""
    from object_store import ObjectStore

    store = ObjectStore()
    yield store
    store.stop()


@pytest.fixture
def object_store(
    one_object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """An S3 service with an empty bucket, which the clients of this process and of what it starts know."""
    from object_store import BUCKET

    from prune_search.storage import object_client
    from prune_search.storage.object_paths import ObjectPath

    for name, value in one_object_store.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(object_client._Conditions, "known", {})
    object_client.client().create_bucket(Bucket=BUCKET)
    one_object_store.requests.clear()
    yield one_object_store
    one_object_store.conditions = "kept"
    ObjectPath(BUCKET).remove_tree()
