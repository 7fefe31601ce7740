"""Reads a search's records repeatedly, at the cost of only the new ones. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from prune_search.ledger.records import (
    TRIALS,
    Record,
    SearchRecords,
    TrialRecords,
    read_progress,
    read_record,
    read_search,
    trial_of,
)
from prune_search.storage.places import StoragePath, names_in


@dataclass
class Follower:
    """Follows the records of a search.

    Records never change, so that each is read once: where a trial's folder holds new names, only these are opened, and
    the progress of its attempts, which does change. A trial that has ended is looked at once more, since files that
    were put there while a folder was listed can be missed, and then left alone. A paused one can go on.

    Attributes:
        folder: of the search.
    """

    folder: StoragePath
    _search: SearchRecords | None = None
    _names: dict[str, frozenset[str]] = field(default_factory=dict)
    _records: dict[str, dict[str, Record]] = field(default_factory=dict)
    _trials: dict[str, TrialRecords] = field(default_factory=dict)
    _settled: dict[str, int] = field(default_factory=dict)

    def read(self) -> tuple[SearchRecords, set[str]]:
        """The records as they are now, and the ids of the trials that have changed since the last reading.

        Raises:
            UserError: there is no such search.
            OSError: a folder cannot be read.
        """
        if self._search is None:
            self._search = read_search(self.folder, trials=False)
        before = self._search
        changed = {identity for identity in self._listed() if self._read(identity)}
        known = {identity for identity in changed if self._trials[identity].proposed is not None}
        if not known <= set(before.trials):
            found = [trial for trial in self._trials.values() if trial.proposed is not None]
            found.sort(key=lambda trial: (trial.control, trial.id))
            trials = {trial.id: trial for trial in found}
        else:
            trials = {**before.trials, **{identity: self._trials[identity] for identity in known}}
        self._search = SearchRecords(before.name, before.folder, before.definition, trials)
        return self._search, changed

    def _listed(self) -> list[str]:
        parent = self.folder / TRIALS
        if not parent.is_dir():
            return []
        left = [path for path in parent.iterdir() if self._settled.get(path.name, 0) < 2]
        return sorted(path.name for path in left if path.is_dir() and not path.is_symlink())

    def _read(self, identity: str) -> bool:
        """Read what is new of a trial; whether there was anything."""
        folder = self.folder / TRIALS / identity
        names = frozenset(names_in(folder))
        same = self._names.get(identity) == names
        if not same:
            self._names[identity] = names
            kept = self._records.setdefault(identity, {})
            for name in names - kept.keys():
                record = read_record(folder / name)
                if record is not None:
                    kept[name] = record
            told = (read_progress(folder / name) for name in names)
            progress = dict(found for found in told if found is not None)
            self._trials[identity] = trial_of(identity, [kept[name] for name in kept.keys() & names], progress)
        trial = self._trials[identity]
        if trial.ended is not None and trial.paused is None:
            self._settled[identity] = self._settled.get(identity, 0) + 1
            if self._settled[identity] > 1:
                self._records.pop(identity, None)
                self._names.pop(identity, None)
        return not same
