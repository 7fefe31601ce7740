"""Passwords of tracking URIs are shown nowhere."""

from __future__ import annotations

import pytest

from prune_search.ledger.uris import has_password, masked, without_credentials

HIDDEN = [
    ("http://team:secret@mlflow:5000", "http://***@mlflow:5000", "http://mlflow:5000"),
    ("http://a-token@mlflow:5000/path", "http://***@mlflow:5000/path", "http://mlflow:5000/path"),
    # A password may hold an @ and, behind it, a slash.
    ("postgresql://team:s@cr/et@db/mlflow", "postgresql://***@db/mlflow", "postgresql://db/mlflow"),
    ("http://mlflow:5000?token=secret&a=1", "http://mlflow:5000?token=***&a=1", "http://mlflow:5000?token=&a=1"),
    ("mssql://db/x?PWD=secret", "mssql://db/x?PWD=***", "mssql://db/x?PWD="),
]
OPEN = ["sqlite:////store/mlflow.db", "http://mlflow:5000", "postgresql://team@db/mlflow", ""]


@pytest.mark.parametrize(("uri", "shown", "bare"), HIDDEN)
def test_user_and_password_are_hidden_or_left_out(uri: str, shown: str, bare: str) -> None:
    assert masked(f"MLflow at {uri} refused") == f"MLflow at {shown} refused"
    assert without_credentials(uri) == bare
    assert has_password(uri)


def test_what_has_no_password_is_shown_as_it_is() -> None:
    for uri in OPEN:
        assert not has_password(uri)
    assert masked(OPEN[0]) == without_credentials(OPEN[0]) == OPEN[0]


def test_the_password_is_hidden_where_it_stands_alone_too_also_decoded() -> None:
    uri = "http://team:p%40ss-word@mlflow:5000"
    text = "login of team:p%40ss-word failed; tried p@ss-word and p%40ss-word"
    assert masked(text, uri) == "login of *** failed; tried *** and ***"
    # One of three letters would hide too many words.
    assert masked("a cat", "http://u:cat@mlflow") == "a cat"
