"""Checks for ``doctor``: whether this machine, a cluster, the storage and MLflow are ready for a search."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prune_search.api.where import named_storage
from prune_search.recipe.problems import UserError
from prune_search.search.ray import token
from prune_search.search.ray.nodes import ClusterNode, cluster, this_machine
from prune_search.storage.errors import one_line
from prune_search.storage.files import StorageError, creates_exclusively, put_file, remove_tree
from prune_search.storage.places import StoragePath

MIN_DISK = 5 * 2**30
MAX_CLOCK_S = 5.0


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: the thing that was checked.
        ok: whether it needs no fixing.
        said: the result, in a few words.
        mend: how to fix it; empty if it is ok.
    """

    what: str
    ok: bool
    said: str
    mend: str = ""

    def as_data(self) -> dict[str, Any]:
        """As ``doctor --json`` prints it."""
        return dict(vars(self))


def examine(address: str | None, storage: str | None, tracking_uri: str | None) -> list[Finding]:
    """Check everything that a search needs.

    Args:
        address: address of a Ray cluster; None for this machine.
        storage: as for ``--storage``.
        tracking_uri: MLflow's tracking URI; None: SQLite in the storage.

    Raises:
        UserError: the storage or the tracking URI is malformed.
    """
    place = named_storage(storage)
    findings = [check_token(address)]
    nodes: list[ClusterNode] = []
    with _probing(place) as (folder, here, wrong):
        if wrong is not None:
            findings.append(wrong)
        try:
            nodes = _nodes(address, folder, here)
        except UserError as error:
            findings += [Finding("Ray", False, problem.message, "see cluster/README.md") for problem in error.problems]
        findings += check_nodes(nodes, address)
        if wrong is None:
            findings += [check_shared(nodes, place, folder), check_conditions(folder)]
    return [*findings, check_tracking_server(place, tracking_uri)]


def _nodes(address: str | None, folder: StoragePath, here: str) -> list[ClusterNode]:
    if address is None:
        return [this_machine(folder, here)]
    with cluster(address) as ask:
        return ask(folder, here)


@contextmanager
def _probing(place: StoragePath) -> Iterator[tuple[StoragePath, str, Finding | None]]:
    """Make a folder with a file in the storage, report what is wrong with the storage, and remove the folder."""
    folder, wrong = place / f".doctor-{secrets.token_hex(8)}", None
    made = False
    try:
        made = not place.exists()
        folder.mkdir(parents=True)
        put_file(folder / "here", b"{}")
    except (OSError, StorageError, UserError) as error:
        advice = "pass a writable --storage, or check its credentials (guide/storage.md)"
        wrong = Finding("storage", False, f"{place}: {one_line(error)}", advice)
    try:
        yield folder, "here", wrong
    finally:
        if wrong is None:
            remove_tree(folder)
        if made and place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def check_token(address: str | None) -> Finding:
    """Whether a token is set and only its owner can read its file."""
    try:
        known, file = token.read_token(), token.token_file()
    except UserError as error:
        return Finding("token", False, str(error), token.HOW)
    if file is not None and token.open_to_others(file):
        return Finding("token", False, f"{file} is readable by other users", f"chmod 600 {file}")
    if known is not None:
        # Ray sends the token only in this mode, or if Ray's own token file exists.
        if os.environ.get(token.MODE, "").lower() == "token":
            return Finding("token", True, "set" if file is None else f"in {file}")
        return Finding("token", False, "set, but not used", f"export {token.MODE}=token")
    if address is None:
        return Finding("token", True, "none; Ray on this machine creates its own")
    advice = f"start its nodes with one (cluster/start-ray.sh) and {token.HOW}"
    return Finding("token", False, "none: anyone who can reach the cluster can run code on it", advice)


def check_nodes(nodes: Sequence[ClusterNode], address: str | None) -> list[Finding]:
    """Versions, GPUs, disk and clocks of the nodes."""
    if not nodes:
        return []
    findings = [Finding("nodes", True, f"{len(nodes)}: " + ", ".join(node.name for node in nodes))]
    findings.append(check_versions(nodes))
    blind = [node.name for node in nodes if node.gpus_seen < node.gpus and address is None]
    counted = sum(node.gpus for node in nodes)
    if blind:
        advice = "install the driver and the CUDA build of torch on these nodes"
        findings.append(Finding("GPUs", False, f"not visible to torch on {', '.join(blind)}", advice))
    else:
        findings.append(Finding("GPUs", True, f"{counted:g}" if counted else "none; trials run on the CPUs"))
    full = [f"{node.name} ({node.disk_free / 2**30:.1f} GiB)" for node in nodes if node.disk_free < MIN_DISK]
    least = min(node.disk_free for node in nodes) / 2**30
    findings.append(
        Finding(
            "disk", False, f"nearly full: {', '.join(full)}", "free space on these nodes, or set TMPDIR to another disk"
        )
        if full
        else Finding("disk", True, f"at least {least:.0f} GiB free")
    )
    off = [f"{n.name} ({n.clock:+.1f} s)" for n in nodes if abs(n.clock) - n.clock_within > MAX_CLOCK_S]
    findings.append(
        Finding(
            "clocks", False, f"differ: {', '.join(off)}", "run an NTP client on these nodes: leases depend on the clock"
        )
        if off
        else Finding("clocks", True, f"within {MAX_CLOCK_S:g} s")
    )
    return findings


def check_versions(nodes: Sequence[ClusterNode]) -> Finding:
    """Whether Python and the packages are the same on every node, and as here."""
    from prune_search.search.ray.nodes import versions

    here = versions()
    differing = [
        f"{node.name} has {name} {version} instead of {here[name]}"
        for node in nodes
        for name, version in node.versions.items()
        # The suffix after the plus distinguishes CUDA and CPU builds of the same torch version.
        if version.partition("+")[0] != here[name].partition("+")[0]
    ]
    if differing:
        return Finding(
            "versions", False, "; ".join(differing), "install the same versions on every node (cluster/Dockerfile)"
        )
    return Finding("versions", True, ", ".join(f"{name} {version}" for name, version in here.items()))


def check_shared(nodes: Sequence[ClusterNode], place: StoragePath, folder: StoragePath) -> Finding:
    """Whether every node sees the same storage and can write to it."""
    blind = [f"{node.name}: {node.wrote or 'sees another folder of that name'}" for node in nodes if not node.found]
    barred = [f"{node.name}: {node.wrote}" for node in nodes if node.found and node.wrote]
    if blind or barred:
        advice = "use a folder shared by all nodes, or s3://BUCKET/PREFIX with credentials on every node"
        return Finding("storage", False, f"{place}: " + "; ".join(blind + barred), advice)
    count = "" if len(nodes) < 2 else f", seen by all {len(nodes)} nodes"
    return Finding("storage", True, f"{place}{count}")


def check_conditions(folder: StoragePath) -> Finding:
    """Whether only one of two concurrent conditional writes succeeds. If not, work may be repeated; nothing is lost."""
    try:
        exclusive = creates_exclusively(folder)
    except StorageError as error:
        return Finding("conditional writes", False, one_line(error), "see guide/storage.md")
    if exclusive:
        return Finding("conditional writes", True, "yes")
    return Finding(
        "conditional writes", True, "not supported: a segment may occasionally be trained twice, which is harmless"
    )


def check_tracking_server(place: StoragePath, tracking_uri: str | None) -> Finding:
    """Whether MLflow answers and accepts our credentials."""
    from prune_search.ledger.uris import masked
    from prune_search.tracking.reachable import reach
    from prune_search.tracking.server import RefusedError, UnreachableError
    from prune_search.tracking.store import absolute_uri

    named = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = absolute_uri(named or "", place)
    try:
        return Finding("MLflow", True, f"{masked(uri)}: {reach(uri)}")
    except (UnreachableError, RefusedError) as error:
        advice = "start it (cluster/compose.yaml), or set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return Finding("MLflow", False, f"{masked(uri)}: {error}", advice)
