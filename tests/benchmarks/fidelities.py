"""Whether low fidelities pay: regret against paid steps of `guided` with and without `search.fidelity`.

    python tests/benchmarks/fidelities.py --table FILE.csv --minutes 12 | tee tests/benchmarks/records/fidelities.log

Shorter training (``steps: 0.25``) is tried on recipes that were trained at both lengths (`quality/trained_pairs.py`),
and on the simulator's closed form, which knows shorter K: in a continuous space whose first trainings differ, and in
two spaces of retrainings of one dense network, whose first training is paid once at each fidelity. The closed form is
the prior of `guided`, which is left out there for that reason. With a table of measured
networks (see `search_quality.py`) there are also chains of ten rounds, for which one round to the same sparsity stands
in (``rounds: 0.1``): both were measured, so that the correlation is a real one. Regret, budgets and units are those of
`search_quality.py`; low-fidelity trials are paid, and never the answer. Beside the regrets stand how many low-fidelity
trials a search ran, and the rank correlation (Kendall's) that it measured with so many pairs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
import optuna
from pausing import retrainings
from quality import course
from quality.course import Line, regrets
from quality.problems import NETWORKS, Problem, closed_form, table
from quality.trained_pairs import correlations, trained_pairs

from prune_search.ledger.fidelities import Judgement, judged
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import TrialRecords
from prune_search.recipe.fidelity import fidelities_of

BUDGETS = (1.0, 2.0, 4.0, 8.0)
TRAINED = Path(__file__).parent / "records" / "trained_pairs.json"
UNTOLD: Mapping[str, Any] = {"name": "guided", "prior": False}
SHORTER, FEWER = {"steps": 0.25}, {"rounds": 0.1}


@dataclass
class Found:
    """What the searches of one line on one problem did.

    Attributes:
        regrets: in points, by seed and budget.
        judgements: by seed, at the end.
    """

    regrets: list[list[float]] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)


def with_fidelity(problem: Problem, form: Mapping[str, float]) -> Problem:
    """The same problem, where cheaper forms can be tried."""
    search = {**problem.raw["search"], "fidelity": [dict(form)]}
    found = replace(problem, raw={**problem.raw, "search": search}, read={})
    # What is searched is the same: its recipes are listed once.
    vars(found).update({name: getattr(problem, name) for name in ("recipes", "truths", "best", "typical", "unit")})
    return found


def lines_of(problem: Problem, form: Mapping[str, float]) -> Iterator[tuple[str, Problem, Line]]:
    """Each sampler without and with the form; the prior is left out where the surface is its formula."""
    asked = with_fidelity(problem, form)
    label = ", ".join(f"{name} {factor:g}" for name, factor in form.items())
    for name, sampler in (("guided, no prior", UNTOLD), *(() if problem.own else (("guided", "guided"),))):
        line = Line(name, sampler, expected=True)
        yield name, problem, line
        yield f"{name} + {label}", asked, line


def searched(problem: Problem, line: Line, seed: int, found: Found) -> None:
    """One search; what it found out about its form is taken down too."""
    ends: list[list[TrialRecords]] = []
    answer_of = course.answer_of

    def taken(trials: Sequence[TrialRecords], *rest: Any, **named: Any) -> TrialRecords | None:
        ends.append(list(trials))
        return answer_of(trials, *rest, **named)

    with mock.patch.object(course, "answer_of", taken):
        found.regrets.append(regrets(problem, line, seed, BUDGETS))
    block = problem.space(line.sampler, "none", seed).search
    low, full = ([t for t in ends[-1] if t.low_fidelity is which] for which in (True, False))
    found.judgements += judged(fidelities_of(block), low, full, Goals.of(block))


def problems(file: str | None) -> list[tuple[Problem, Mapping[str, float]]]:
    """Each with the form that is tried there."""
    chosen: list[tuple[Problem, Mapping[str, float]]] = [
        (trained_pairs(TRAINED), SHORTER),
        (closed_form(), SHORTER),
        *((retrainings(percent), SHORTER) for percent in (90, 98)),
    ]
    if file is not None:
        chosen += [(table(file, network, "chains"), FEWER) for network in NETWORKS]
    return chosen


def report(lines: Sequence[tuple[str, str, Found]]) -> Iterator[str]:
    """Mean regrets and their standard errors, then the differences that the form makes, seed by seed."""
    yield f"{len(lines[0][2].regrets)} seeds; budgets in units: {', '.join(f'{budget:g}' for budget in BUDGETS)}"
    last = ""
    for problem, name, found in lines:
        if problem != last:
            yield problem
        last = problem
        yield f"  {name:30}{_means(numpy.array(found.regrets))}{_told(found.judgements)}"
    yield "\nregret with the form less that without it, over all problems and seeds; below 0: it helps"
    for one in dict.fromkeys(name for _, name, _ in lines if " + " in name):
        pairs = [
            (found, next(f for p, n, f in lines if p == problem and n == name.partition(" + ")[0]))
            for problem, name, found in lines
            if name == one
        ]
        less = numpy.concatenate([numpy.array(mine.regrets) - numpy.array(plain.regrets) for mine, plain in pairs])
        yield f"  {one:30}{_means(less)}"


def _means(rows: numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]) -> str:
    error = rows.std(0, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else 0 * rows[0]
    return "".join(f"{mean:9.2f} ± {one:4.2f}" for mean, one in zip(rows.mean(0), error, strict=True))


def _told(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return ""
    known = [one.kendall for one in judgements if one.kendall is not None]
    trials, pairs = (statistics.fmean(n) for n in zip(*((j.trials, len(j.pairs)) for j in judgements), strict=True))
    tau = f"{statistics.fmean(known):.2f}" if known else "–"
    used = sum(one.used for one in judgements)
    return f"   {trials:.1f} trials, τ {tau} of {pairs:.1f} pairs, not dropped in {used} of {len(judgements)}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="a table of measured networks (CSV)")
    parser.add_argument("--only", nargs="+", help="problems whose names contain one of these")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=12.0, help="of processor time: then no further seed")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    once, means = correlations(TRAINED)
    print(f"digits: τ over all recipes {once:.2f} of one measurement each, {means:.2f} of means over the seeds")
    lines = [
        (problem.name, name, asked, line, Found())
        for problem, form in problems(options.table)
        if not options.only or any(word in problem.name for word in options.only)
        for name, asked, line in lines_of(problem, form)
    ]
    begun = time.process_time()
    for done, seed in enumerate(range(options.first, options.first + options.seeds), 1):
        for _, _, asked, line, found in lines:
            searched(asked, line, seed, found)
        if (time.process_time() - begun) / 60 * (done + 1) / done > options.minutes:
            break
    print("\n".join(report([(problem, name, found) for problem, name, _, _, found in lines])))


if __name__ == "__main__":
    main()
