"""Which holes of a space mattered: functional ANOVA over the trials of searches, by Optuna.

Hutter, Hoos & Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter Importance: the share of a forest's
variance that each hole explains by itself and in its interactions. It needs holes that every trial has, so that those
of one option of ``any`` are weighed among the trials of that option.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.recipe import canonical_json
from prune_search.search.optuna_study import OneStudy, placed
from prune_search.search.proposer import frozen_trial, no_news

# Lower ends of the bands of reached sparsity: what matters at half the weights need not at one in a hundred.
BANDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
# Of fewer trials a forest says nothing.
MIN_TRIALS = 10
# A forest over more of them takes long, and says the same.
MAX_TRIALS = 500
# Five times as fast as the 64 deep trees that are the default, with shares that differ in the second digit.
TREES, DEPTH, SEED = 24, 8, 0
_OPTION = re.compile(r"any\[(?P<label>[^\]]*)\]\..*")


@dataclass(frozen=True)
class _Known:
    """A trial that can be weighed.

    Attributes:
        trial: as Optuna knows it, its first value the objective.
        sparsity: that was reached.
        option: the label of its option of ``any``.
    """

    trial: FrozenTrial
    sparsity: float
    option: str


def importance_data(searches: Sequence[SearchRecords]) -> list[dict[str, Any]]:
    """How much each hole mattered for the first objective of the first search.

    Searches over the same space are weighed together, each other one by itself.

    Returns:
        Per searches, and per band of reached sparsity and option of ``any`` in which enough trials completed: their
        names (``searches``), ``sparsity`` (lowest and highest of the band; None for all trials), ``option`` (None for
        all), ``metric``, ``trials`` (how many) and ``knobs``, shares of the variance by hole, the largest first, which
        add up to 1. ``knobs`` is empty, and ``why`` says why, where nothing can be said.
    """
    groups: dict[str, list[SearchRecords]] = {}
    for search in searches:
        groups.setdefault(canonical_json(search.definition["space"]["options"]), []).append(search)
    return [entry for group in groups.values() for entry in _weighed(group)]


def _weighed(searches: Sequence[SearchRecords]) -> Iterator[dict[str, Any]]:
    goals = Goals.of(searches[0].definition["space"]["search"])
    known = [one for search in searches for trial in search.numbered() if (one := _known(trial, goals)) is not None]
    known = known[-MAX_TRIALS:]
    told = {"searches": [search.name for search in searches], "metric": goals.objectives[0][1]}
    yield {**told, "sparsity": None, "option": None, **_shares(known)}
    bands = [(low, high, _within(known, low, high)) for low, high in zip(BANDS, (*BANDS[1:], None), strict=True)]
    if sum(bool(inside) for _, _, inside in bands) > 1:
        for low, high, inside in bands:
            if inside:
                yield {**told, "sparsity": [low, 1.0 if high is None else high], "option": None, **_shares(inside)}
    for label in dict.fromkeys(one.option for one in known if one.option):
        mine = [one for one in known if one.option == label]
        if len(mine) >= MIN_TRIALS:
            yield {**told, "sparsity": None, "option": label, **_shares(mine)}


def _known(trial: TrialRecords, goals: Goals) -> _Known | None:
    if trial.proposed is None or trial.proposed.data["sampler"] is None or trial.duplicate_of is not None:
        return None
    # Constraints play no part here, so that no dense network is needed.
    frozen = frozen_trial(trial, Goals(goals.objectives), None)
    sparsity = trial.metrics.get("sparsity")
    if frozen.state != TrialState.COMPLETE or sparsity is None:
        return None
    return _Known(frozen, float(sparsity), str(trial.proposed.data.get("option", "")))


def _within(known: Sequence[_Known], low: float, high: float | None) -> list[_Known]:
    # What is asked for as 0.9 is often reached as 0.8999…
    return [one for one in known if one.sparsity >= low - 5e-4 and (high is None or one.sparsity < high - 5e-4)]


def _shares(known: Sequence[_Known]) -> dict[str, Any]:
    """The shares of the holes that all these trials have and that are not the same in all of them."""
    said: dict[str, Any] = {"trials": len(known), "knobs": {}}
    if len(known) < MIN_TRIALS:
        return {**said, "why": f"{len(known)} trials have completed, and at least {MIN_TRIALS} are needed"}
    trials = [one.trial for one in known]
    common = [name for name in trials[0].params if all(name in trial.params for trial in trials)]
    # Two searches can give one hole other ranges.
    common = [name for name in common if all(t.distributions[name] == trials[0].distributions[name] for t in trials)]
    moved = [name for name in common if len({str(trial.params[name]) for trial in trials}) > 1]
    if not moved:
        return {**said, "why": "no hole shared by all of them has more than one value"}
    values = [(trial.values or [0.0])[0] for trial in trials]
    if max(values) == min(values):
        return {**said, "why": "all of them have the same figure"}
    shares = {moved[0]: 1.0} if len(moved) == 1 else _fanova(trials, moved)
    return {**said, "knobs": {_short(name): round(float(share), 6) for name, share in shares.items()}}


def _fanova(trials: Sequence[FrozenTrial], names: list[str]) -> dict[str, float]:
    # Its forest brings scikit-learn, which takes seconds to import.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    with no_news():
        told = [
            optuna.trial.create_trial(
                values=[(trial.values or [0.0])[0]],
                params={name: trial.params[name] for name in names},
                distributions={name: trial.distributions[name] for name in names},
            )
            for trial in trials
        ]
        storage = OneStudy([placed(trial, number) for number, trial in enumerate(told)])
        study = optuna.create_study(storage=storage, direction="maximize")
        forest = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=SEED)
        return get_param_importances(study, evaluator=forest, params=names)


def _short(name: str) -> str:
    """A hole's name; that of an option of ``any`` under its path alone where only that option's trials are weighed."""
    match = _OPTION.fullmatch(name)
    return name if match is None else name.partition("].")[2]
