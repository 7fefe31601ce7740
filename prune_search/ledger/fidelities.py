"""Whether low fidelities are worth their price: how well cheaper recipes rank as the full ones do. No torch.

Multi-fidelity optimization buys cheap answers where they say enough of the dear ones (Kandasamy et al. 2017, BOCA,
1703.06240; Falkner et al. 2018, BOHB, 1807.01774). How much they say is measured here as the search goes on, by
Kendall's rank correlation over the recipes that were measured both ways.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prune_search.ledger.account import total
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.fidelity import Fidelity, fidelities_of
from prune_search.recipe.metric_names import quality

# With fewer pairs nothing is concluded from them.
LEAST_PAIRS = 3
# What is believed of Kendall's correlation before anything is measured, and how many pairs that belief is worth.
BEFORE, WORTH = 0.6, 3


@dataclass(frozen=True)
class Judgement:
    """What is known of one low fidelity.

    Attributes:
        label: of the form (see `Fidelity.label`).
        trials: how many low-fidelity trials of this form were proposed.
        completed: how many of them have a figure.
        share: mean price over that of the full recipe, both from nothing, 0 … 1; None before the first trial.
        pairs: (figure of the cheaper recipe, figure of the full one), for every recipe that was measured both ways.
    """

    label: str
    trials: int
    completed: int
    share: float | None
    pairs: tuple[tuple[float, float], ...]

    @property
    def kendall(self) -> float | None:
        """Kendall's τ_b of the pairs, -1 … 1; None with less than two pairs, or where one side is all ties."""
        return kendall(self.pairs)

    @property
    def correlation(self) -> float:
        """The correlation that is reckoned with, -1 … 1.

        Up to two pairs 1: what is not known yet is tried (optimism, as in Kandasamy et al. 2017). From then on
        sin(π τ / 2), the correlation of two normal variables with that τ (Greiner's relation; Kendall 1949), with τ
        drawn towards 0.6 as by three more pairs.
        """
        count, tau = len(self.pairs), self.kendall
        if count < LEAST_PAIRS:
            return 1.0
        # Where all figures are alike, they rank nothing.
        drawn = (count * (tau or 0.0) + WORTH * BEFORE) / (count + WORTH)
        return math.sin(math.pi / 2 * drawn)

    @property
    def used(self) -> bool:
        """Whether it is worth its price: correlation · √((1 + 1) / (share + 1)) > 1 for a recipe of mean price.

        The rule by which the sampler chooses, log gain - ½ log(price + one mean recipe), with the gain of the cheaper
        recipe times the correlation, as in augmented expected improvement (Huang et al. 2006, Structural and
        Multidisciplinary Optimization 32).
        """
        share = 0.0 if self.share is None else self.share
        return self.correlation * math.sqrt(2 / (1 + share)) > 1

    def as_data(self) -> dict[str, Any]:
        """As ``--json`` has it."""
        return {
            "fidelity": self.label,
            "trials": self.trials,
            "completed": self.completed,
            "price": None if self.share is None else round(self.share, 4),
            "pairs": len(self.pairs),
            "kendall": None if self.kendall is None else round(self.kendall, 4),
            "used": self.used,
        }


def kendall(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's τ_b (Kendall 1945, Biometrika 33): concordant less discordant pairs of pairs, ties taken into account.

    Returns:
        -1 … 1; None with less than two pairs, or where all first or all second values are equal.

    Example:
        >>> kendall([(0.1, 0.5), (0.2, 0.7), (0.3, 0.6)])
        0.3333333333333333
    """
    both = left = right = 0
    for place, (x, y) in enumerate(pairs):
        for other_x, other_y in pairs[:place]:
            first, second = (x > other_x) - (x < other_x), (y > other_y) - (y < other_y)
            both, left, right = both + first * second, left + abs(first), right + abs(second)
    return both / math.sqrt(left * right) if left and right else None


def judged(
    forms: Sequence[Fidelity], low: Sequence[TrialRecords], full: Sequence[TrialRecords], goals: Goals
) -> list[Judgement]:
    """What is known of each form.

    Args:
        forms: of the search.
        low: its low-fidelity trials.
        full: its other trials, controls left out.
        goals: the first objective that is measured on data tells how recipes rank.
    """
    metric = quality(goals.objectives)[1]
    known = {
        one.proposed.data.get("digest"): value
        for one in full
        if one.proposed is not None and (value := figure_of(one, metric)) is not None
    }
    found = []
    for label in (form.label for form in forms):
        of_form = [one for one in low if one.fidelity == label and one.proposed is not None]
        told = [(one.proposed.data["fidelity"], figure_of(one, metric)) for one in of_form if one.proposed]
        pairs = tuple((value, known[said["of"]]) for said, value in told if value is not None and said["of"] in known)
        share = statistics.fmean(float(said["price"]) for said, _ in told) if told else None
        found.append(Judgement(label, len(told), sum(value is not None for _, value in told), share, pairs))
    return found


def figure_of(trial: TrialRecords, metric: str) -> float | None:
    """What a completed trial measured; None where it has no such finite figure."""
    value = trial.metrics.get(metric) if trial.status == "completed" else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def fidelity_data(search: SearchRecords) -> list[dict[str, Any]]:
    """What a search found out about its low fidelities, as ``--json`` has it; nothing where it has none.

    Returns:
        For each form ``fidelity`` (its label), ``trials`` and ``completed`` ones, ``price`` over that of the full
        recipe, ``pairs`` of recipes that were measured both ways, ``kendall``, the rank correlation of these (None with
        less than two), whether it is ``used`` or was dropped, and the ``steps_trained`` for it.
    """
    block, low = search.definition["space"]["search"], search.low_fidelity()
    return [
        {
            **one.as_data(),
            "steps_trained": total(trial for trial in low if trial.fidelity == one.label).trained,
        }
        for one in judged(fidelities_of(block), low, search.numbered(), Goals.of(block))
    ]
