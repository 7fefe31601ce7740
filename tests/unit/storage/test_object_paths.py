"""Places in an object store, against an S3 service over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from object_store import KEY_ID, SECRET, ObjectStore

from prune_search.storage import object_client, object_paths
from prune_search.storage.files import StorageError, put_file, remove_tree
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import names_in, place_of

ROOT = "s3://studies/team/store"


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


@pytest.mark.security
@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "", "/", "a//b", "."])
def test_names_do_not_climb_out(name: str) -> None:
    with pytest.raises(ValueError, match="leads out of"):
        place_of(ROOT) / name
