"""The Markdown notes that MLflow shows on a run's page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from prune_search.ledger.finalists import Winner, winner_of
from prune_search.ledger.pauses import where_paused
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe import strict_yaml
from prune_search.tracking.leaderboard import Placed, directions, goals_of
from prune_search.tracking.names import MAX_TAG
from prune_search.tracking.ui_views import RUN, searches_link, table_link

MAX_ROWS = 10
FRONT = "pictures/pareto.svg"


def parent_note(search: SearchRecords, board: Sequence[Placed], state: str, pictures: Sequence[str] = ()) -> str:
    """The note of the search: the best so far, leaderboard, Pareto picture, plan, what to type next, the best recipe.

    Args:
        search: the records.
        board: its trials, best first.
        state: running, finished or interrupted.
        pictures: names of the artifacts that are pictures.
    """
    # MLflow shows the first lines, and the rest when it is asked to.
    parts = [_summary(search, board, state), _table(search, board), _picture(pictures), _plan(search)]
    head = "\n\n".join(part for part in (*parts, _next_commands(search, state)) if part)
    note = "\n\n".join(part for part in (head, _best_recipe(search, board)) if part)
    return note if len(note) <= MAX_TAG else head


def trial_note(search: SearchRecords, trial: TrialRecords, status: str) -> str:
    """The note of a trial: what became of it, and how to take it along."""
    if trial.duplicate_of is not None:
        return f"The same recipe as trial {trial.duplicate_of}, so it was not trained again. Its result is shown here."
    if status == "failed" and trial.ended is not None:
        error = trial.ended.data.get("error") or {}
        return f"Failed ({_plain(error.get('kind'))}): {_plain(error.get('message'))}"
    if status == "paused":
        rest = f"Paused {where_paused(trial)}: others were better at the same maturity."
        return f"{rest} It continues from its stored state once it is among the best there."
    if trial.low_fidelity:
        return (
            f"Low fidelity ({_plain(trial.fidelity)}): a cheaper form of a recipe, run to see whether the recipe "
            "itself is worth its price. It is never ranked or recommended."
        )
    if status == "completed" and not trial.control:
        name = trial.proposed.data["name"] if trial.proposed is not None else trial.result.get("key")
        return f"Export it with `prune-search export {_at(search)} --trial {name} --to DIR`"
    return {
        "stopped": "Stopped by the scheduler: others were better at the same maturity.",
        "interrupted": f"Interrupted with its search. `prune-search resume {_at(search)}` continues it.",
    }.get(status, "")


def _summary(search: SearchRecords, board: Sequence[Placed], state: str) -> str:
    counts = search.counts()
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none begun"
    asked = search.definition["space"]["search"]["trials"]
    identity = search.definition["id"]
    links = f"[table]({table_link(identity)}), [charts]({table_link(identity, charts=True)})"
    links += f"; all searches of this task: [table]({searches_link()}), [charts]({searches_link(charts=True)})"
    first = f"**{_plain(state.capitalize())}:** {told}, of {asked} trials ({links})."
    return "\n\n".join(part for part in (first, _best(search, board)) if part)


def _best(search: SearchRecords, board: Sequence[Placed]) -> str:
    if not board:
        return ""
    if (end := winner_of(search)).finalists:
        return _best_finalist(search, end)
    trial = board[0].trial
    name = trial.proposed.data["name"] if trial.proposed is not None else trial.id
    figures = [f"{_plain(metric)} {_number(trial.metrics.get(metric))}" for metric in directions(goals_of(search))]
    missed = " (no trial meets the constraints; this one comes closest)" if board[0].violation > 0 else ""
    return f"**Best:** {_plain(name)}, {', '.join(figures)}{missed}"


def _best_finalist(search: SearchRecords, end: Winner) -> str:
    first = end.finalists[0]
    name = first.trial.proposed.data["name"] if first.trial.proposed is not None else first.trial.id
    figures = []
    for metric in directions(goals_of(search)):
        deviation = first.deviation(metric)
        spread = f" ± {_number(deviation)}" if deviation else ""
        figures.append(f"{_plain(metric)} {_number(first.mean(metric))}{spread}")
    missed = "" if end.met else " (no finalist meets the constraints; this one comes closest)"
    alike = sum(first.like(other, goals_of(search).objectives[0][1]) for other in end.finalists[1:])
    others = (
        f" {alike} other of {len(end.finalists)} finalists cannot be told apart from it by these seeds."
        if alike
        else ""
    )
    seeds = f"means of {len(first.repeats)} new seeds"
    return f"**Best:** {_plain(name)}, {', '.join(figures)} ({seeds}){missed}.{others}"


def _plan(search: SearchRecords) -> str:
    plan: Mapping[str, Any] = search.definition["space"]["search"]
    names = search.definition["task"]
    goals = ", ".join(map(_plain, plan["objectives"]))
    wanted = goals + (f", with {_all(plan['constraints'])}" if plan["constraints"] else "")
    return (
        f"**Plan:** {wanted}, on {_plain(names['data'])} with {_plain(names['model'])}; sampler "
        f"{_name(plan['sampler'])}, scheduler {_name(plan['scheduler'])}, {plan['concurrency']} at a time, "
        f"seed {plan['seed']}."
    )


def _picture(pictures: Sequence[str]) -> str:
    """The Pareto front, from the run's own artifacts."""
    if FRONT not in pictures:
        return ""
    more = f" All {len(pictures)} figures are in the artifacts under `pictures`." if len(pictures) > 1 else ""
    return f"![Pareto front](get-artifact?path={quote(FRONT, safe='')}&run_uuid={RUN})\n\n{more.strip()}"


def _all(constraints: Sequence[str]) -> str:
    return " and ".join(map(_plain, constraints))


def _name(registered: Any) -> str:
    return _plain(registered["name"] if isinstance(registered, Mapping) else registered)


def _plain(value: Any) -> str:
    """A value on one line in which Markdown sees no mark of its own."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text


def _table(search: SearchRecords, board: Sequence[Placed]) -> str:
    metrics = list(directions(goals_of(search)))
    controls = [trial for trial in search.controls() if trial.result]
    if not board and not controls:
        return "No trial has completed yet."
    columns = ["", "trial", *map(_plain, metrics), "steps"]
    rows = [
        [_place(rank, place), *_cells(place.trial, metrics)] for rank, place in enumerate(board[:MAX_ROWS], start=1)
    ]
    rows += [["", *_cells(trial, metrics)] for trial in controls]
    ruler = ["---"] * 2 + ["---:"] * (len(metrics) + 1)
    lines = ["| " + " | ".join(row) + " |" for row in (columns, ruler, *rows)]
    more = [f"\n{len(board) - MAX_ROWS} more in leaderboard.json."] if len(board) > MAX_ROWS else []
    legend = ["\n★ Pareto: no other trial is better in one objective and no worse in the rest."] if len(board) else []
    return "\n".join([*lines, *more, *legend])


def _place(rank: int, place: Placed) -> str:
    if place.violation > 0:
        return f"{rank} (misses a constraint)"
    return f"{rank}\u00a0★" if place.pareto else str(rank)


def _cells(trial: TrialRecords, metrics: Sequence[str]) -> list[str]:
    name = trial.proposed.data["name"] if trial.proposed is not None else trial.id
    values = [_number(trial.metrics.get(metric)) for metric in metrics]
    steps = trial.metrics.get("steps_trained")
    cells = [_plain(name), *values, "" if steps is None else f"{steps:.0f}"]
    # MLflow's page draws a table without any room between its columns.
    return [cell + "\u00a0\u00a0" for cell in cells]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _best_recipe(search: SearchRecords, board: Sequence[Placed]) -> str:
    if not board:
        return ""
    best = winner_of(search).trial or board[0].trial
    recipe = strict_yaml.dump(dict(best.recipe)).rstrip()
    return f"**The best recipe**\n\n```yaml\n{recipe}\n```"


def _next_commands(search: SearchRecords, state: str) -> str:
    at = _at(search)
    commands = [
        f"prune-search compare {at} --by paradigm",
        f"prune-search compare {at} --html report.html",
        f"prune-search export {at} --to DIR",
    ]
    if state != "finished":
        commands.insert(0, f"prune-search {'status' if state == 'running' else 'resume'} {at}")
    # Inline code wraps; a block of code would push the rest of MLflow's page aside.
    return "**Next**\n\n" + "\n".join(f"- `{command}`" for command in commands)


def _at(search: SearchRecords) -> str:
    storage = shlex.quote(str(search.folder.parent.parent))
    return f"{shlex.quote(search.name)} --storage {storage}"
