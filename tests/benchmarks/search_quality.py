"""Regret against paid steps of the samplers, over problems whose answers are known, by the product's own search loop.

    python tests/benchmarks/search_quality.py --table FILE.csv --grids FILE.json.gz \\
        | tee tests/benchmarks/records/search_quality.log

A search runs one trial at a time on the simulator, with the product's proposer, shared tree and ledger. The unit of its
budget is the mean length of a recipe of the space from nothing, its first training included; what is stored is free.
Regret is how far the expected accuracy of the recipe that the search would recommend lies below the best of the space,
in points of test accuracy: on measured networks it is the mean over the seeds of training. Where nothing has ended yet,
that of the mean recipe. `guided` recommends the recipe of the best expected value, the others the best measured one;
a line of random search with the former rule tells the two apart. `guided, other networks` begins with
what the table says of the networks that are not searched. `everything` searches nothing: each recipe of the space was
measured once, and the best measured or best expected one is taken. What is left there is the noise of single
measurements, whatever the sampler. A first training is longer than a unit's rest on some
problems, so that the first answer comes after one unit there.

Problems: the table (four networks; chains of ten rounds, one-shot, and both), measured grids, the letters that were
measured for this purpose at two sparsities (`quality.trained_letters`; nothing was tuned on them), and the closed form
of the simulator. That is the formula which `guided` has as a prior, so that lines with it are left out there.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy
import optuna
from quality.course import LINES, regrets
from quality.defaults import of_problem
from quality.figures import CHANCE, Array, medians
from quality.problems import Problem, problems
from quality.trained_letters import trained_letters

Asked = tuple[str | None, tuple[str, ...], str, str, int, tuple[float, ...]]
Run = Callable[[Callable[[Asked], list[float]], Iterable[Asked]], Iterable[list[float]]]
Found = dict[tuple[str, str], list[list[float]]]


@cache
def _problems(table: str | None, grids: tuple[str, ...]) -> Mapping[str, Problem]:
    return {problem.name: problem for problem in [*problems(table, grids), *trained_letters()]}


def _search(asked: Asked) -> list[float]:
    """Regrets of one search; in a process of its own where there are several."""
    table, grids, problem, name, seed, budgets = asked
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    line = next(one for one in LINES if one.name == name)
    return regrets(_problems(table, grids)[problem], line, seed, budgets, of_problem(table, problem))


def lines_of(problem: Problem, wanted: Sequence[str]) -> list[str]:
    """The lines that are run on a problem: on the formula that the prior is, only those without it."""
    chosen = [line for line in LINES if line.name in wanted and (problem.whole or not line.everything)]
    return [line.name for line in chosen if not (problem.own and line.sampler == "guided")]


def searched(chosen: Sequence[Problem], options: argparse.Namespace, run: Run) -> Iterator[Found]:
    """Regrets of every search so far, after each seed, as long as there is time."""
    begun = time.monotonic()
    found: Found = {}
    pairs = [(problem.name, line) for problem in chosen for line in lines_of(problem, options.lines)]
    for done, seed in enumerate(range(options.first, options.first + options.seeds), 1):
        each = [
            (*pair, number)
            for pair in pairs
            for number in (range(seed * options.chance, (seed + 1) * options.chance) if pair[1] == CHANCE else (seed,))
        ]
        asked = [(options.table, tuple(options.grids), *one, tuple(options.budgets)) for one in each]
        for one, row in zip(each, run(_search, asked), strict=True):
            found.setdefault(one[:2], []).append(row)
        yield found
        spent = (time.monotonic() - begun) / 60
        if options.minutes is not None and spent * (done + 1) / done > options.minutes:
            break


def table_of(problem: Problem, lines: Mapping[str, Array]) -> Iterator[str]:
    """The table of one problem: mean regrets and their standard errors."""
    count = f"{len(problem.recipes)} recipes" if problem.whole else "a continuous space"
    accuracies = f"best {100 * problem.best:.2f}, mean {100 * problem.typical:.2f}"
    yield f"{problem.name}: {count}, {accuracies}, a unit is {problem.unit:,.0f} steps"
    for name, rows in lines.items():
        mean, error = rows.mean(0), rows.std(0, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else 0 * rows[0]
        shown = "".join(f"{m:9.2f} ± {e:4.2f}" for m, e in zip(mean, error, strict=True))
        yield f"  {name:26}{shown}"


def report(chosen: Sequence[Problem], found: Found, options: argparse.Namespace) -> str:
    """Everything that is printed."""
    tables: dict[str, dict[str, Array]] = {problem.name: {} for problem in chosen}
    for (name, line), rows in found.items():
        tables[name][line] = numpy.array(rows)
    seeds = {len(rows) for rows in found.values()}
    counts = " and ".join(f"{count}" for count in sorted(seeds)) + (" (of random search)" if len(seeds) > 1 else "")
    texts = [f"{counts} seeds; budgets in units: {', '.join(f'{budget:g}' for budget in options.budgets)}"]
    texts += [text for problem in chosen for text in table_of(problem, tables[problem.name])]
    return "\n".join([*texts, *summary(tables, options)]) + "\n"


def summary(found: Mapping[str, Mapping[str, Array]], options: argparse.Namespace) -> Iterator[str]:
    """Medians over the problems of each line."""
    for title, over_chance in (("regret in points", False), ("regret over that of random search", True)):
        yield f"\n{title}: median over the problems, 95 % of 2,000 draws of problems and seeds"
        yield " " * 28 + "".join(f"{budget:>22g}" for budget in options.budgets) + "   problems"
        for line in options.lines:
            there = [lines for lines in found.values() if line in lines and CHANCE in lines]
            if there:
                shown = "".join(f"{interval!s:>22}" for interval in medians(there, line, over_chance))
                yield f"  {line:26}{shown}   {len(there):8}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [line.name for line in LINES]
    parser.add_argument("--table", help="a table of measured networks (CSV)")
    parser.add_argument("--grids", nargs="*", default=[], help="files of measured grids (JSON)")
    parser.add_argument("--only", nargs="+", help="problems whose names contain one of these")
    parser.add_argument("--lines", nargs="+", default=names, choices=names, metavar="LINE", help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--chance", type=int, default=1, help="seeds of random search for each of the others'")
    parser.add_argument("--budgets", type=float, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, help="end after so many, whatever the number of seeds")
    parser.add_argument("--log", type=Path, help="a file for what is known after each seed")
    options = parser.parse_args()
    known = _problems(options.table, tuple(options.grids))
    chosen = [p for p in known.values() if not options.only or any(word in p.name for word in options.only)]
    with contextlib.ExitStack() as stack:
        run: Run = map
        if options.workers > 1:
            run = stack.enter_context(multiprocessing.get_context("spawn").Pool(options.workers)).map
        text = ""
        for found in searched(chosen, options, run):
            text = report(chosen, found, options)
            if options.log is not None:
                options.log.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
