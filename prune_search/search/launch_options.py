"""How a search is launched: one object from the command line to the worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.storage.places import StoragePath, place_of

if TYPE_CHECKING:
    from prune_search.search.given_code import GivenCode
    from prune_search.trial.data_and_network import Code

HEARTBEAT_S = 300.0


@dataclass(frozen=True)
class LaunchOptions:
    """How the trials of a search are trained, and what they read and write.

    All but `given` is plain data, so that it travels to workers.

    What a search block says (workers, CPUs and GPUs of a trial, its scheduler) is the space's, and not here.

    Attributes:
        storage: of the stored states: an absolute folder, or ``s3://bucket/prefix``.
        data_root: absolute folder of the data sets' files, or None.
        code: the user's own ``model`` and ``data`` by name, those that may run.
        given: those of them that workers cannot import; it travels beside the plain data.
        device: ``auto``, ``cpu``, ``cuda:1`` …
        address: of a Ray cluster; None starts Ray on this machine.
        heartbeat_s: a worker that makes no step for so long ends itself, and is started again.
        sharing: whether trials share what they train, with each other and with other searches on the storage.
        system_metrics: whether trials write down the memory that they take.
    """

    storage: str
    data_root: str | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    given: GivenCode | None = None
    device: str = "auto"
    address: str | None = None
    heartbeat_s: float = HEARTBEAT_S
    sharing: bool = True
    system_metrics: bool = False

    @property
    def storage_folder(self) -> StoragePath:
        """Where the stored states lie."""
        return place_of(self.storage)

    @property
    def data_folder(self) -> Path | None:
        """Where the data sets' files lie, if they are named."""
        return None if self.data_root is None else Path(self.data_root)

    def user_code(self) -> Code:
        """The user's code that may run: what was given as a function, and names of the rest."""
        from prune_search.trial.data_and_network import Code

        given = {} if self.given is None else self.given.functions
        return Code(given.get("model") or self.code.get("model"), given.get("data") or self.code.get("data"))

    def as_plain(self) -> dict[str, Any]:
        """All but the functions, as plain data."""
        return {key: value for key, value in vars(self).items() if key != "given"}
