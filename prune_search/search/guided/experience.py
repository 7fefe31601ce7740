"""What earlier searches showed, as surfaces that a later search takes as prior means.

It is read once, when a search is launched, and stored beside its records, figures only. So a search stays a function of
its own folder: what other searches find later changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import TRIALS, SearchRecords, TrialRecords, list_searches, read_search, read_trial
from prune_search.recipe import axes
from prune_search.recipe.begin import is_cold
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Named, Recipe, canonical_json
from prune_search.recipe.space import Space, known_epoch, recipe_epoch
from prune_search.recipe.space_samples import Corner, space_samples
from prune_search.search.guided.features import Network
from prune_search.search.guided.gains import SPARSITY
from prune_search.search.guided.past import Reader, looked_at
from prune_search.search.guided.surface import Surface
from prune_search.search.guided.targets import Target
from prune_search.storage.files import put_file
from prune_search.storage.json_files import read_json
from prune_search.storage.places import StoragePath, below

FILE = "experience.json"
FORMAT = 1
# The latest searches are looked at, so many of them, and so many trials of each.
MOST_SEARCHES, MOST_TRIALS = 3, 150
# Of fewer completed trials nothing is taken.
LEAST_TRIALS = 6

SpaceOf = Callable[[Mapping[str, Any]], Space]


@dataclass(frozen=True)
class Earlier:
    """What one earlier search measured.

    Attributes:
        name: of the search, with its network and data.
        networks: that were measured.
        figures: by metric, of each of them; None where it was not measured.
    """

    name: str
    networks: tuple[Network, ...]
    figures: Mapping[str, tuple[float | None, ...]]
    _surfaces: dict[str, Surface | None] = field(default_factory=dict, repr=False, compare=False)

    def knows(self, metric: str) -> bool:
        """Whether it has measured a metric often enough."""
        return sum(figure is not None for figure in self.figures.get(metric, ())) >= LEAST_TRIALS

    def surface(self, metric: str, direction: str) -> Surface | None:
        """What it lets one expect of a metric on its target's scale; None where it has not measured it."""
        if metric not in self._surfaces:
            self._surfaces[metric] = self._surface(metric, direction)
        return self._surfaces[metric]

    def _surface(self, metric: str, direction: str) -> Surface | None:
        if not self.knows(metric):
            return None
        pairs = [(one, float(f)) for one, f in zip(self.networks, self.figures[metric], strict=True) if f is not None]
        known = [figure for _, figure in pairs]
        return Surface.of([one for one, _ in pairs], Target.of(metric, direction, known).all(known))

    def as_data(self) -> dict[str, Any]:
        """As it is stored."""
        networks = [
            {"owner": n.owner, "numbers": dict(n.numbers), "kinds": dict(n.kinds), "density": n.density}
            for n in self.networks
        ]
        return {"name": self.name, "networks": networks, "figures": {m: list(f) for m, f in self.figures.items()}}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Earlier:
        """As it was stored."""
        networks = tuple(Network(**one, prior=0.0, spent=0.0) for one in data["networks"])
        return cls(str(data["name"]), networks, {m: tuple(f) for m, f in data["figures"].items()})


@dataclass(frozen=True)
class Experience:
    """What earlier searches measured.

    Attributes:
        earlier: the searches, the latest first.
    """

    earlier: tuple[Earlier, ...] = ()

    def expected(self, metric: str, direction: str) -> list[Surface]:
        """What each search that measured a metric lets one expect of it."""
        found = [one.surface(metric, direction) for one in self.earlier]
        return [surface for surface in found if surface is not None]

    def store(self, folder: StoragePath) -> None:
        """Write it into the folder of a search; nothing where there is nothing.

        Raises:
            StorageError: it could not be written.
        """
        if self.earlier:
            content = {"format": FORMAT, "searches": [one.as_data() for one in self.earlier]}
            put_file(folder / FILE, (canonical_json(content) + "\n").encode())

    def knowing(self, metric: str) -> list[str]:
        """The names of those that have measured a metric, in the order in which `expected` gives them."""
        return [one.name for one in self.earlier if one.knows(metric)]


def stored_experience(folder: StoragePath) -> Experience:
    """What a search was launched with.

    Raises:
        UserError: the file is damaged, or another version has written it.
    """
    if not (folder / FILE).exists():
        return Experience()
    content = read_json(folder / FILE)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return Experience(tuple(Earlier.from_data(one) for one in content["searches"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"{folder / FILE} is not as this version writes it ({type(error).__name__}: {error})"
        raise UserError(text) from None


# --- gathering --------------------------------------------------------------------------------------------------------


def gathered(storage: StoragePath, space: Space, simulated: bool, space_of: SpaceOf) -> Experience:
    """What the searches of a storage showed that have the same holes and measured an objective of a space.

    Searches that cannot be read are passed over: nothing depends on them.

    Args:
        storage: need not exist.
        space: what is going to be searched.
        simulated: whether it will be simulated; trained searches learn of trained ones only, simulated ones likewise.
        space_of: the space of a search by its definition.

    Returns:
        Nothing for a search that begins cold, whose sampler does not learn from it, or that is reproducible: it must
        not depend on what else is stored.
    """
    learns = Named.of(axes.SAMPLERS, space.search["sampler"]).entry(axes.SAMPLERS).facts.expects
    if is_cold(space.search) or space.search["reproducible"] or not learns:
        return Experience()
    metrics = [metric for _, metric in Goals.of(space.search).objectives if metric != SPARSITY]
    metrics = [metric for metric in metrics if metric.startswith("val/")]
    names = hole_names(space)
    found: list[Earlier] = []
    for search in _latest_first(storage, simulated):
        if len(found) == MOST_SEARCHES:
            break
        try:
            same = hole_names(space_of(search.definition)) == names
            earlier = _read(search, metrics) if same else None
        except (UserError, LookupError, TypeError, ValueError):
            continue
        if earlier is not None:
            found.append(earlier)
    return Experience(tuple(found))


def hole_names(space: Space) -> frozenset[str]:
    """The sampler's names of all holes, conditional ones too."""

    def drawn(corner: Corner) -> list[str]:
        space.fill(corner)
        return list(corner.seen)

    return frozenset(name for names in space_samples(drawn) for name in names)


def _latest_first(storage: StoragePath, simulated: bool) -> Iterable[SearchRecords]:
    found = []
    for name in list_searches(storage):
        try:
            search = read_search(below(storage, "searches") / name, trials=False)
        except (UserError, LookupError, TypeError, ValueError):
            continue
        if (search.simulated is not None) == simulated:
            found.append(search)
    return sorted(found, key=lambda search: (-float(search.definition.get("created") or 0.0), search.name))


def _read(search: SearchRecords, metrics: Sequence[str]) -> Earlier | None:
    examples = int(search.definition.get("examples") or 0)

    def epoch_of(recipe: Recipe) -> int | None:
        return known_epoch(recipe) or (recipe_epoch(recipe, examples) if examples else None)

    past = Reader(epoch_of).all(_trials(search))
    if sum(one.completed for one in past) < LEAST_TRIALS:
        return None
    seen = looked_at(past)
    figures = {metric: tuple(_finite(one.figures.get(metric)) for one in seen) for metric in metrics}
    figures = {metric: found for metric, found in figures.items() if any(figure is not None for figure in found)}
    if not figures:
        return None
    task = search.definition.get("task", {})
    about = " on ".join(str(task[key]) for key in ("model", "data") if task.get(key))
    owners: dict[str, str] = {}
    networks = tuple(
        Network(owners.setdefault(n.owner, str(len(owners))), n.numbers, n.kinds, n.density, 0.0, 0.0)
        for n in (one.network for one in seen)
    )
    return Earlier(f"{search.name} ({about})" if about else search.name, networks, figures)


def _trials(search: SearchRecords) -> list[TrialRecords]:
    """The trials of a search, or of a long one some, evenly over its course."""
    parent = search.folder / TRIALS
    names = sorted(path.name for path in parent.iterdir() if path.name.isdecimal()) if parent.is_dir() else []
    step = max(1, math.ceil(len(names) / MOST_TRIALS))
    return [read_trial(parent / name) for name in names[::step]]


def _finite(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
