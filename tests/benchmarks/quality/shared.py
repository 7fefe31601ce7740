"""What all searches of one problem have in common, computed once: the recipes of the space and what tells them apart.

Searches of a space that is taken whole have the same candidates whatever their seed, and reading these takes longer
than the search itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from unittest import mock

from prune_search.search.guided import guide, past
from prune_search.search.guided.candidates import Candidate, Candidates
from prune_search.search.guided.features import Network, network


@dataclass
class Shared:
    """Of one problem.

    Attributes:
        fixed: its candidates.
        networks: by recipe, round and share of the retraining.
    """

    fixed: tuple[list[Candidate], bool] | None = None
    networks: dict[tuple[str, int, float], Network] = field(default_factory=dict)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Within, a search looks up what an earlier one has computed."""
        fixed = Candidates.fixed

        def once(candidates: Candidates) -> tuple[list[Candidate], bool]:
            if self.fixed is None:
                self.fixed = fixed(candidates)
            return self.fixed

        def looked_up(one: Candidate, number: int, done: float = 1.0) -> Network:
            key = (one.digest, number, done)
            if key not in self.networks:
                self.networks[key] = network(one, number, done)
            return self.networks[key]

        with (
            mock.patch.object(Candidates, "fixed", once),
            mock.patch.object(guide, "network", looked_up),
            mock.patch.object(past, "network", looked_up),
        ):
            yield
