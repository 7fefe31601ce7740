"""Places in an object store, against an S3 service over HTTP."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
from object_store import KEY_ID, SECRET, ObjectStore

from prune_search.recipe.problems import UserError
from prune_search.storage import object_client, object_paths
from prune_search.storage.files import StorageError, create_if_absent, open_regular, put_file, remove_tree
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import names_in, place_of

ROOT = "s3://studies/team/store"


@pytest.mark.parametrize("conditions", ["ignored", "refused"])
def test_a_service_without_conditional_writes_is_found_out_and_said_once(
    object_store: ObjectStore, caplog: pytest.LogCaptureFixture, conditions: str
) -> None:
    object_store.conditions = conditions
    root = place_of(ROOT)
    with caplog.at_level(logging.WARNING):
        assert create_if_absent(root / "one", b"1")
        assert not create_if_absent(root / "one", b"2")
        assert create_if_absent(root / "two", b"2")
    assert [record.message for record in caplog.records if "no conditional writes" in record.message] == [
        "the object store of s3://studies has no conditional writes (If-None-Match): where two begin the same thing at "
        "once, both can do it; that is harmless, and costs time"
    ]
    assert sorted(names_in(root)) == ["one", "two"]


def test_an_object_of_several_parts(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_client, "PART_BYTES", 2**20)
    data = bytes(range(256)) * 2**15
    put_file(place_of(ROOT) / "large", data)
    with open_regular(place_of(ROOT) / "large") as file:
        assert file.read() == data


def test_many_objects_are_listed_and_removed_page_by_page(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = place_of(ROOT)
    assert isinstance(root, ObjectPath)
    monkeypatch.setattr(object_paths, "MAX_AT_ONCE", 10)
    for number in range(25):
        put_file(root / "many" / f"{number:04d}", b"")
    object_store.requests.clear()
    assert len(names_in(root / "many")) == 25
    assert len(object_store.requests) == 3
    remove_tree(root / "many")
    assert names_in(root / "many") == []
    assert sum(request.startswith("POST") for request in object_store.requests) == 3


def test_a_record_that_is_known_is_not_fetched_again(object_store: ObjectStore) -> None:
    root = place_of(ROOT)
    put_file(root / "one.json", b"1")
    for _ in range(3):
        assert [path.read_bytes() for path in root.iterdir()] == [b"1"]
    assert sum(request.endswith("one.json") and request.startswith("GET") for request in object_store.requests) == 1
    put_file(root / "one.json", b"2")
    assert [path.read_bytes() for path in root.iterdir()] == [b"2"]


@pytest.fixture
def new_client() -> Iterator[pytest.MonkeyPatch]:
    """A client is made anew in the test; what it patches ends with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_client._Clients, "pid", 0)
        patch.setattr(object_client._Clients, "client", None)
        yield patch


def test_away_is_not_absent_and_is_said_without_credentials(
    object_store: ObjectStore, new_client: pytest.MonkeyPatch
) -> None:
    new_client.setattr(object_client, "ATTEMPTS", 1)
    place = place_of(ROOT) / "one.json"
    with object_store.away():
        for call in (place.exists, place.touch, place.unlink, lambda: names_in(place), lambda: put_file(place, b"1")):
            with pytest.raises(StorageError) as failure:
                call()
            assert str(failure.value).count("\n") == 0
            assert "the object store cannot be reached" in str(failure.value)
            assert not any(word in str(failure.value) for word in (KEY_ID, SECRET, "127.0.0.1"))
    assert not place.exists()


def test_a_bucket_that_is_not_there(object_store: ObjectStore) -> None:
    with pytest.raises(StorageError, match="no such bucket"):
        names_in(place_of("s3://other-bucket/store"))
    with pytest.raises(StorageError, match="no such bucket"):
        put_file(place_of("s3://other-bucket/store") / "one", b"1")


def test_no_credentials(object_store: ObjectStore, new_client: pytest.MonkeyPatch) -> None:
    new_client.delenv("AWS_ACCESS_KEY_ID")
    new_client.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no credentials for the object store: set AWS_ACCESS_KEY_ID"):
        names_in(place_of(ROOT))


def test_without_boto3_the_extra_is_named(new_client: pytest.MonkeyPatch) -> None:
    new_client.setitem(sys.modules, "boto3", None)
    with pytest.raises(UserError, match=r"pip install 'prune-search\[cluster\]'"):
        place_of(ROOT).exists()


@pytest.mark.security
@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "", "/", "a//b", "."])
def test_names_do_not_climb_out(name: str) -> None:
    with pytest.raises(ValueError, match="leads out of"):
        place_of(ROOT) / name


def test_a_forked_process_makes_a_client_of_its_own(object_store: ObjectStore, new_client: pytest.MonkeyPatch) -> None:
    before = object_client.client()
    assert object_client.client() is before
    new_client.setattr(object_client._Clients, "pid", object_client._Clients.pid + 1)
    assert object_client.client() is not before
    assert not place_of(ROOT).exists()
