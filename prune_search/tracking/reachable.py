"""Checks whether an MLflow server answers and accepts our credentials."""

from __future__ import annotations

from prune_search.ledger.tracking_uri import sqlite_file
from prune_search.tracking.server import answers, knock
from prune_search.tracking.settings import prepare_process


def reach(uri: str) -> str:
    """What is found at a tracking URI, in a few words; nothing is made there.

    Args:
        uri: from `store.absolute_uri`.

    Raises:
        UnreachableError: nobody answers.
        RefusedError: it does not let us in.
    """
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return "will be created by a search"
    prepare_process()
    knock(uri)
    with answers(uri):
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    return "answers"
