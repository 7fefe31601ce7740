"""A search's records, read again and again at the cost of what is new."""

from __future__ import annotations

from dataclasses import dataclass, field

from prune_search.training.places import Place, names_in
from prune_search.trial.records import TRIALS, SearchRecords, TrialRecords, read_search, read_trial


@dataclass
class Follower:
    """Follows the records of a search.

    A trial is read anew where the files in its folder have changed. One that has ended is read once more, since
    files that were put there while a folder was listed can be missed, and then left alone.

    Attributes:
        folder: of the search.
    """

    folder: Place
    _search: SearchRecords | None = None
    _names: dict[str, frozenset[str]] = field(default_factory=dict)
    _trials: dict[str, TrialRecords] = field(default_factory=dict)
    _settled: dict[str, int] = field(default_factory=dict)

    def read(self) -> tuple[SearchRecords, set[str]]:
        """The records as they are now, and the ids of the trials that have changed since the last reading.

        Raises:
            UserError: there is no such search.
            OSError: a folder cannot be read.
        """
        if self._search is None:
            self._search = read_search(self.folder)
            changed = set(self._search.trials)
            self._trials = dict(self._search.trials)
        else:
            changed = {identity for identity in self._listed() if self._read(identity)}
        found = [trial for trial in self._trials.values() if trial.proposed is not None]
        found.sort(key=lambda trial: (trial.control, trial.id))
        first = self._search
        return SearchRecords(first.name, first.folder, first.definition, {t.id: t for t in found}), changed

    def _listed(self) -> list[str]:
        parent = self.folder / TRIALS
        if not parent.is_dir():
            return []
        names = [path.name for path in parent.iterdir() if path.is_dir() and not path.is_symlink()]
        return [name for name in sorted(names) if self._settled.get(name, 0) < 2]

    def _read(self, identity: str) -> bool:
        """Read a trial where its files have changed; whether they have."""
        folder = self.folder / TRIALS / identity
        names = frozenset(names_in(folder))
        same = self._names.get(identity) == names
        if not same:
            self._names[identity] = names
            self._trials[identity] = read_trial(folder)
        if self._trials[identity].ended is not None:
            self._settled[identity] = self._settled.get(identity, 0) + 1
        return not same
