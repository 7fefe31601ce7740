"""The client of an S3 service: its errors in our words, and what it does where the service lacks something."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, PartialCredentialsError
from object_store import BUCKET, KEY_ID, SECRET, ObjectStore

from prune_search.recipe.problems import UserError
from prune_search.storage import object_client
from prune_search.storage.errors import StorageError
from prune_search.storage.object_client import (
    Translated,
    call,
    create_object,
    error_code,
    is_object,
    read_object,
    write_object,
)


def answered(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"secret {SECRET}"}}, "GetObject")


def test_what_is_not_there_is_a_missing_file_and_everything_else_cannot_be_found_out() -> None:
    for code in ("404", "NoSuchKey", "NotFound"):
        with pytest.raises(FileNotFoundError, match="s3://bucket/folder/one"), Translated("bucket", "folder/one"):
            raise answered(code)
    cases: list[tuple[Exception, str]] = [
        (answered("NoSuchBucket"), "one.json: the object store has no such bucket"),
        (answered("AccessDenied"), "one.json: the object store refused the request ('AccessDenied')"),
        (NoCredentialsError(), "one.json: no credentials for the object store: set AWS_ACCESS_KEY_ID"),
        (PartialCredentialsError(provider="env", cred_var="x"), "one.json: no credentials"),
        (
            EndpointConnectionError(endpoint_url=f"http://{KEY_ID}:{SECRET}@minio:9000"),
            "one.json: the object store cannot be reached (EndpointConnectionError)",
        ),
    ]
    for error, said in cases:
        with pytest.raises(StorageError) as told, Translated("bucket", "folder/one.json"):
            raise error
        assert str(told.value).startswith(said)
        assert not any(word in str(told.value) for word in (KEY_ID, SECRET, "minio", "\n"))


def test_what_is_no_trouble_of_the_service_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), Translated("bucket", "one"):
        raise ZeroDivisionError
    with Translated("bucket", "one"):
        pass
    assert error_code(answered("409")) == "409"
    assert error_code(ValueError()) == error_code(None) == ""


@pytest.fixture
def new_client() -> Iterator[pytest.MonkeyPatch]:
    """A client is made anew in the test; what it patches ends with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_client._Clients, "pid", 0)
        patch.setattr(object_client._Clients, "client", None)
        yield patch


def test_without_boto3_the_extra_is_named(new_client: pytest.MonkeyPatch) -> None:
    new_client.setitem(sys.modules, "boto3", None)
    with pytest.raises(UserError, match=r"pip install 'prune-search\[cluster\]'"):
        is_object(BUCKET, "one")


def test_a_setting_that_boto3_refuses_is_said_without_it(new_client: pytest.MonkeyPatch) -> None:
    new_client.setenv("AWS_ENDPOINT_URL_S3", f"no url {SECRET}")
    new_client.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(StorageError, match="cannot set up the object store client: check the AWS_… variables") as told:
        object_client.client()
    assert SECRET not in str(told.value)


class Service:
    """A client that answers what it is told to, and counts its calls."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def put_object(self, **given: Any) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {}


def test_a_conditional_write_that_conflicts_is_tried_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_client._Conditions, "known", {"bucket": True})
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for answers, made in (((answered("409"), None), True), ((answered("412"),), False)):
        service = Service(*answers)
        monkeypatch.setattr(object_client, "client", lambda service=service: service)
        assert create_object("bucket", "one", b"1") is made
        assert service.answers == []
    service = Service(*[answered("409")] * object_client.CONFLICTS)
    monkeypatch.setattr(object_client, "client", lambda: service)
    with pytest.raises(StorageError, match="others keep writing to the same place"):
        create_object("bucket", "one", b"1")


def test_an_object_comes_back_as_it_was_written_and_not_above_the_limit(object_store: ObjectStore) -> None:
    write_object(BUCKET, "team/one", b"123")
    assert is_object(BUCKET, "team/one")
    assert read_object(BUCKET, "team/one") == b"123"
    with pytest.raises(ValueError, match="one is too large"):
        read_object(BUCKET, "team/one", at_most=2)
    assert not create_object(BUCKET, "team/one", b"456")
    assert create_object(BUCKET, "team/two", b"456")
    call(BUCKET, "team/one", "delete_object", Key="team/one")
    assert not is_object(BUCKET, "team/one")
    with pytest.raises(FileNotFoundError):
        read_object(BUCKET, "team/one")


@pytest.mark.parametrize("conditions", ["ignored", "refused"])
def test_a_service_without_conditional_writes_is_found_out_and_said_once(
    object_store: ObjectStore, caplog: pytest.LogCaptureFixture, conditions: str
) -> None:
    object_store.conditions = conditions
    with caplog.at_level(logging.WARNING):
        assert create_object(BUCKET, "team/one", b"1")
        assert not create_object(BUCKET, "team/one", b"2")
        assert create_object(BUCKET, "team/two", b"2")
    assert [record.message for record in caplog.records if "no conditional writes" in record.message] == [
        "the object store of s3://studies has no conditional writes (If-None-Match): two workers that start the "
        "same work at once may both do it, which costs time but is harmless"
    ]


def test_an_object_of_several_parts(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_client, "PART_BYTES", 2**20)
    data = bytes(range(256)) * 2**15
    write_object(BUCKET, "large", data)
    assert read_object(BUCKET, "large") == data


def test_no_credentials(object_store: ObjectStore, new_client: pytest.MonkeyPatch) -> None:
    new_client.delenv("AWS_ACCESS_KEY_ID")
    new_client.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no credentials for the object store: set AWS_ACCESS_KEY_ID"):
        is_object(BUCKET, "one")


def test_a_forked_process_makes_a_client_of_its_own(object_store: ObjectStore, new_client: pytest.MonkeyPatch) -> None:
    before = object_client.client()
    assert object_client.client() is before
    new_client.setattr(object_client._Clients, "pid", object_client._Clients.pid + 1)
    assert object_client.client() is not before
    assert not is_object(BUCKET, "one")
