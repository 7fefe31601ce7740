"""What is expected of the recipes that a search has run: the luckiest measurement is not the best recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from prune_search.ledger.ranking import Dense, Goals
from prune_search.ledger.records import Record, SearchRecords, TrialRecords
from prune_search.recipe import axes
from prune_search.recipe.recipe import Named, Recipe
from prune_search.recipe.space import nominal_epoch
from prune_search.search.guided.experience import Experience, stored_experience
from prune_search.search.guided.features import Frame
from prune_search.search.guided.gains import Modelled
from prune_search.search.guided.kernel import Rows
from prune_search.search.guided.model import Model
from prune_search.search.guided.past import Past, Reader, looked_at
from prune_search.search.guided.surface import Surface

# Deviations on either side of an expected figure: 95 % of a normal distribution.
WIDTH = 1.96
VALIDATION = "val/"
PUBLISHED, NOTHING = "published findings", "nothing known before"

# A metric's name, what is believed of it, and the rows of the completed recipes.
ModelledMetric = tuple[str, Modelled, Rows]


@dataclass(frozen=True)
class Expected:
    """What a metric of a recipe is expected to be, were it run again and again.

    Attributes:
        value: in the metric's unit.
        low: 95 % of what is believed lies above it …
        high: … and below it, both ends together.
    """

    value: float
    low: float
    high: float

    def as_data(self) -> dict[str, float]:
        """As ``--json`` has it."""
        return {"value": self.value, "low": self.low, "high": self.high}


def expected_figures(
    trials: Sequence[TrialRecords],
    goals: Goals,
    prior: bool = True,
    reader: Reader | None = None,
    experience: Experience | None = None,
) -> dict[str, dict[str, Expected]]:
    """What is expected of every completed recipe, by trial and metric of the goals that is measured on validation data.

    Other metrics are the same whenever they are measured. The mixture of Gaussian processes of the sampler `guided`
    looks at all that was measured, whichever sampler proposed it. Its prior is discounted where it does not explain
    what was measured.

    Args:
        trials: of one search; controls, repeated recipes and trials that did not complete are left out.
        goals: whose metrics are wanted.
        prior: whether published findings are a prior mean of the error.
        reader: reads the trials; one that is used again remembers what it has read.
        experience: what earlier searches showed: further prior means.
    """
    past = (reader or Reader(nominal)).all(trials)
    return _figures(past, modelled_metrics(past, goals, prior, experience or Experience()))


def _figures(past: Sequence[Past], metrics: Sequence[ModelledMetric]) -> dict[str, dict[str, Expected]]:
    ended = [one for one in past if one.completed]
    found: dict[str, dict[str, Expected]] = {one.trial: {} for one in ended}
    for metric, modelled, rows in metrics:
        centre, deviation = modelled.moments(rows)
        for one, middle, width in zip(ended, centre, WIDTH * deviation, strict=True):
            ends = [modelled.target.figure(float(middle + side)) for side in (-width, width)]
            value = modelled.target.figure(float(middle))
            found[one.trial][metric] = Expected(value, min(ends), max(ends))
    return found


def modelled_metrics(past: Sequence[Past], goals: Goals, prior: bool, experience: Experience) -> list[ModelledMetric]:
    """Each metric of the goals that is measured on validation data, as modelled, and the rows of completed recipes."""
    if not any(one.completed for one in past):
        return []
    seen = looked_at(past)
    last = [one.seen[-1].network for one in past if one.completed]
    # What was left out of the measurements is expected like what was never measured.
    model = Model(Frame.of([*last, *(one.network for one in seen)], prior), seen, {"ended": last})
    wanted = {m: "maximize" if relation == ">=" else "minimize" for m, relation, _ in goals.constraints}
    wanted |= {metric: direction for direction, metric in goals.objectives}
    rows = numpy.arange(len(last))
    objectives = {metric for _, metric in goals.objectives}

    def learned(metric: str, direction: str) -> list[Surface]:
        return experience.expected(metric, direction) if metric in objectives else []

    return [
        (metric, model.of(metric, direction, learned=learned(metric, direction)), rows)
        for metric, direction in wanted.items()
        if metric.startswith(VALIDATION)
    ]


def recommended(
    trials: Sequence[TrialRecords],
    goals: Goals,
    dense: Dense,
    prior: bool = True,
    reader: Reader | None = None,
    experience: Experience | None = None,
) -> tuple[TrialRecords | None, bool]:
    """The trial that `Goals.best` chooses by expected figures, and whether it meets the constraints.

    Args:
        trials: of one search.
        goals: objectives and constraints.
        dense: metrics of the dense network, as they were measured; None while they are not known.
        prior: whether published findings are a prior mean of the error.
        reader: see `expected_figures`.
        experience: what earlier searches showed.
    """
    return best_expected(trials, expected_figures(trials, goals, prior, reader, experience), goals, dense)


def best_expected(
    trials: Sequence[TrialRecords], figures: Mapping[str, Mapping[str, Expected]], goals: Goals, dense: Dense
) -> tuple[TrialRecords | None, bool]:
    """The trial that `Goals.best` chooses by given expected figures, and whether it meets the constraints."""
    found, met = goals.best([_expected(trial, figures.get(trial.id, {})) for trial in trials], dense)
    return next((trial for trial in trials if found is not None and trial.id == found.id), None), met


def as_expected(
    trials: Sequence[TrialRecords],
    goals: Goals,
    prior: bool = True,
    reader: Reader | None = None,
    experience: Experience | None = None,
) -> list[TrialRecords]:
    """The trials with what is expected of them in the place of what was measured; see `expected_figures`."""
    figures = expected_figures(trials, goals, prior, reader, experience)
    return [_expected(trial, figures.get(trial.id, {})) for trial in trials]


def follows(sampler: object) -> bool:
    """Whether a search with this sampler recommends, and repeats, by expected figures."""
    return Named.of(axes.SAMPLERS, sampler).entry(axes.SAMPLERS).facts.expects


def _expected(trial: TrialRecords, figures: Mapping[str, Expected]) -> TrialRecords:
    """The trial with expected figures in place of measured ones."""
    if trial.ended is None or not figures:
        return trial
    metrics = {**trial.metrics, **{metric: one.value for metric, one in figures.items() if metric in trial.metrics}}
    data = {**trial.ended.data, "result": {**trial.result, "metrics": metrics}}
    ended = Record(trial.id, "ended", trial.ended.attempt, trial.ended.number, trial.ended.time, data)
    return TrialRecords(trial.id, trial.proposed, trial.attempts, [], ended)


def recommendations(searches: Sequence[SearchRecords]) -> list[dict[str, Any]]:
    """What each search recommends, as ``compare --json`` has it.

    Returns:
        For each search with a completed recipe ``search``, ``id``, ``key`` and ``name`` of the trial;
        ``constraints_met``, as far as its expected figures say; ``figures``, per metric of the goals what was
        ``measured``, and the expected ``value`` with its ``low`` and ``high`` ends; ``followed``, whether the
        search's sampler is one that recommends by expected figures; and ``trusted`` (see `trusted`).
    """
    found = []
    for search in searches:
        block, trials = search.definition["space"]["search"], search.numbered()
        goals, prior = Goals.of(block), with_prior(block["sampler"])
        experience, past = stored_experience(search.folder), Reader(nominal).all(trials)
        metrics = modelled_metrics(past, goals, prior, experience)
        expected = _figures(past, metrics)
        trial, met = best_expected(trials, expected, goals, search.dense or None)
        if trial is None or trial.proposed is None:
            continue
        figures = expected.get(trial.id, {})
        found.append(
            {
                "search": search.name,
                "id": trial.id,
                "key": trial.result.get("key"),
                "name": trial.proposed.data["name"],
                "constraints_met": met,
                "figures": {m: {"measured": trial.metrics.get(m), **one.as_data()} for m, one in figures.items()},
                "followed": follows(block["sampler"]),
                "trusted": trusted(metrics, goals, experience),
            }
        )
    return found


def trusted(metrics: Sequence[ModelledMetric], goals: Goals, experience: Experience) -> dict[str, float]:
    """How much of what is believed of the first modelled objective rests on what was known before.

    Returns:
        Shares by source, which add up to 1: their posterior weights, which fall where a source does not explain what
        was measured.
    """
    objectives = {metric: modelled for metric, modelled, _ in metrics if metric in {m for _, m in goals.objectives}}
    metric = next((metric for _, metric in goals.objectives if metric in objectives), None)
    belief = None if metric is None else objectives[metric].belief
    if metric is None or belief is None:
        return {}
    shares = {PUBLISHED: belief.guided, **dict(zip(experience.knowing(metric), belief.learned, strict=True))}
    shares[NOTHING] = max(0.0, 1 - sum(shares.values()))
    return {name: round(share, 6) for name, share in shares.items()}


def with_prior(sampler: object) -> bool:
    """Whether the findings are a prior: not where the search left them out."""
    return bool(Named.of(axes.SAMPLERS, sampler).options.get("prior", True))


def nominal(recipe: Recipe) -> int:
    """Iterations in an epoch, as far as they are known without the data."""
    return nominal_epoch(recipe.task.written["data"], recipe.train.batch, accumulate=recipe.train.accumulate)
