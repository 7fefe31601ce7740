"""The data set of arrays that a test works with: any task can be there instead, which has no arrays."""

from __future__ import annotations

from prune_search.tasks.data import DataSet


def arrays(data: object) -> DataSet:
    """The data set."""
    assert isinstance(data, DataSet)
    return data
