"""The address of a search's prepared table in MLflow, to print in a terminal."""

from __future__ import annotations

from prune_search.ledger.records import SearchRecords
from prune_search.ledger.uris import masked
from prune_search.tracking.delivered_log import DeliveredLog, memory_folder
from prune_search.tracking.ui_views import table_link


def table_address(search: SearchRecords, server: str | None = None) -> str | None:
    """The address of the prepared table.

    Args:
        search: whose trials it shows.
        server: where MLflow's page is served; None: at the search's own tracking URI.

    Returns:
        None where nothing has reached MLflow yet, or where its URI is that of files, which nobody serves.
    """
    at = search.tracking_uri if server is None else server
    # Asked first: the log of what was delivered is long, and most searches have their MLflow in files.
    if not at.startswith(("http://", "https://")):
        return None
    experiment = DeliveredLog.read(memory_folder(search.folder, search.tracking_uri)).experiment
    if not experiment:
        return None
    return f"{masked(at).rstrip('/')}/{table_link(search.definition['id'], experiment=experiment)}"
