"""``prune-search status``: show the progress of a search."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_search.cli.arguments import Json, Storage, examples
from prune_search.cli.exits import as_called
from prune_search.cli.searches import damaged, find_search, is_running, latest_search, read
from prune_search.cli.verbs import VERBS, Verb
from prune_search.recipe.problems import Problem, UserError
from prune_search.report.labels import SPARSITIES, fidelity_text, figure, head_of

if TYPE_CHECKING:
    from rich.table import Table

    from prune_search.api.believed import Believed
    from prune_search.storage.places import StoragePath

EPILOG = examples(
    "prune-search status", "prune-search status quickstart --watch", "prune-search status quickstart --json"
)
LOOK_EVERY_S, LOOK_SHARE = 2.0, 5.0
MAX_FAILURES = 5
# Places of the course of what is expected.
SHOWN = 4


@VERBS.register("status", facts=Verb(epilog=EPILOG))
def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of the search. Default: the running search, else the latest one."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the search ends.")] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show the progress of a search: trials, best result, steps saved and time left.

    With --watch, a search with the sampler guided also shows its expected best figure over the steps that it has paid
    for, next to what random search would have reached.
    """
    if watch and as_json:
        raise UserError([Problem("--watch", "cannot be combined with --json, which prints a single object")])
    from prune_search.api.where import storage_option

    folder = find_search(storage, latest_search(storage) if name is None else name)
    if watch:
        _watch(folder, storage_option(storage))
        return
    data = _look(folder)
    if as_json:
        typer.echo(json.dumps(data, allow_nan=False))
    else:
        from rich.console import Console

        Console(highlight=False).print(_shown(data, storage_option(storage)))


def _look(folder: StoragePath, believed: Believed | None = None) -> dict[str, Any]:
    from prune_search.report.status import status_data
    from prune_search.tracking.addresses import table_address
    from prune_search.tracking.delivery_thread import undelivered

    with damaged(folder):
        records, running = read(folder), is_running(folder)
        data = {**status_data(records, running), "undelivered": undelivered(records, running)}
        data["table"] = table_address(records)
        return data if believed is None else {**data, "expected": believed.watched(records)}


def _watch(folder: StoragePath, option: str) -> None:
    from rich.console import Console
    from rich.live import Live

    from prune_search.api.believed import Believed

    console, believed = Console(highlight=False), Believed()
    data = _look(folder, believed)
    # Ctrl-C stops watching, not the search.
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(_shown(data, option), console=console, auto_refresh=False) as live,
    ):
        spent = 0.0
        while data["state"] == "running":
            # Reading a long search takes a while; do not keep a core busy with it.
            time.sleep(max(LOOK_EVERY_S, LOOK_SHARE * spent))
            begun = time.monotonic()
            data = _look(folder, believed)
            spent = time.monotonic() - begun
            live.update(_shown(data, option), refresh=True)


def _shown(data: dict[str, Any], option: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        box=None, show_header=False, title=f"{escape(data['name'])}  [bold]{data['state']}[/bold]", title_justify="left"
    )
    table.add_column()
    table.add_column(overflow="fold")
    for label, text in _lines(data, option):
        table.add_row(label, escape(text))
    return table


def _lines(data: dict[str, Any], option: str) -> list[tuple[str, str]]:
    trials, best = data["trials"], data["best"]
    ended = sum(trials.get(key, 0) for key in ("completed", "stopped", "paused", "failed", "duplicates"))
    lines = [
        ("task", " on ".join(str(data["task"][key]) for key in ("model", "data") if data["task"].get(key))),
        ("trials", f"{ended} of {data['planned']}:  " + "  ".join(f"{count} {kind}" for kind, count in trials.items())),
    ]
    if data["simulated"]:
        lines.append(("simulated", f"with the surface {data['simulated']}; nothing is trained"))
    if data.get("paused"):
        lines.append(("paused", "  ".join(f"{count} {where}" for where, count in data["paused"].items())))
    if data["controls"]:
        lines.append(
            ("controls", "  ".join(f"{name.removeprefix('control-')} {how}" for name, how in data["controls"].items()))
        )
    lines += [("fidelity", fidelity_text(told)) for told in data.get("fidelities", ())]
    if best is not None:
        figures = "  ".join(
            f"{head_of(name)} {figure(value)}"
            for name, value in best["metrics"].items()
            if name.startswith("val/") or name in SPARSITIES or name in data["objectives"]
        )
        unmet = "" if best["constraints_met"] else "  (no trial meets the constraints)"
        lines.append(("best", f"{best['name']}  {figures}{unmet}"))
    lines += _expected_lines(data.get("expected"))
    lines.append(("steps", steps_line(data)))
    if data["seconds_waiting"] is not None:
        lines.append(("data", f"a step waits {1000 * data['seconds_waiting']:.1f} ms for data"))
    if data["tracking_uri"] and not data["simulated"]:
        lines.append(("mlflow", data["table"] or data["tracking_uri"]))
    lines += _cluster_lines(data)
    if data["seconds_left"] is not None:
        lines.append(("time left", f"about {duration(data['seconds_left'])}"))
    for failure in data["failures"][:MAX_FAILURES]:
        lines.append(("failed", f"{failure['name']}: {failure['kind']}: {' '.join(str(failure['message']).split())}"))
    if len(data["failures"]) > MAX_FAILURES:
        lines.append(("", f"… {len(data['failures']) - MAX_FAILURES} more: --json"))
    follow = {"interrupted": "resume", "finished": "compare"}.get(data["state"])
    if follow is not None:
        lines.append(("next", as_called(f"prune-search {follow} {data['name']}{option}")))
    return lines


def _expected_lines(told: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The best expected figure at a few places of the course, beside what chance would have reached."""
    if told is not None and "left_out" in told:
        return [("expected", told["left_out"])]
    course = [] if told is None else told["course"]
    if told is None or not course:
        return []
    lines = []
    for place in dict.fromkeys(round(part * (len(course) - 1) / (SHOWN - 1)) for part in range(SHOWN)):
        point = course[place]
        chance = "" if point["chance"] is None else f"; random search {point['chance']:.4g}"
        text = (
            f"{point['value']:.4g} ({point['low']:.4g} … {point['high']:.4g}) at {point['steps']:,} paid steps{chance}"
        )
        lines.append(("", text))
    return [("expected", f"best {told['metric']} so far, as the search estimates it now:"), *lines]


def _cluster_lines(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nodes and devices, waiting and retried trials, records not yet in MLflow; a line for each that exists."""
    lines: list[tuple[str, str]] = []
    machines, waits = data["machines"], data["waits"]
    if machines is not None:
        lost = f" ({machines['lost']} lost)" if machines["lost"] else ""
        used = [
            f"{machines[f'{kind}s_used']:g} of {machines[f'{kind}s']:g} {kind.upper()}s in use"
            for kind in ("gpu", "cpu")
            if machines[f"{kind}s"]
        ]
        lines.append(("cluster", "  ".join([f"{machines['nodes']} node{'s' * (machines['nodes'] != 1)}{lost}", *used])))
    waiting = {"for training in another trial": waits["for_training"], "for a whole device": waits["for_device"]}
    told = [f"{count} {what}" for what, count in waiting.items() if count]
    if told:
        lines.append(("waiting", "  ".join(told)))
    if data["retried"]:
        lines.append(("retried", f"{data['retried']} attempts"))
    if data["undelivered"]:
        lines.append(("MLflow", f"{data['undelivered']} records not delivered yet"))
    return lines


def steps_line(data: Mapping[str, Any]) -> str:
    """Step counts on one line: ``trained 1,200  saved 5,400  replayed 12``; zeros after the first two are left out."""
    names = ("trained", "saved", "replayed", "repeated", "abandoned")
    counts = {name: int(data[f"steps_{name}"]) for name in names}
    return "  ".join(f"{name} {count:,}" for name, count in counts.items() if count or name in names[:2])


def duration(seconds: float) -> str:
    """A duration in seconds for people: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
