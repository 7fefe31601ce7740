"""The search of lottery_ticket.yaml on Fashion-MNIST; its winner on new seeds against the dense network of equal steps.

    python tests/benchmarks/lottery_ticket_search.py --data-root DATA --storage FOLDER

The log of a run lies in tests/benchmarks/records/.

Everything goes through the command line, as a user would type it. The winner is what `export` takes: the best trial on
validation data among those that meet the space's constraints. The dense network is the search's own control
`control-dense-long`, of the winner's total steps. Both are then trained with three seeds that the search has not seen,
which draw the initial weights, the order of the examples and the split of the training set anew. The storage keeps
what was trained: after an interruption the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from fashion_lottery_ticket import line, run, show_means

SPACE = Path(__file__).parents[2] / "search_spaces" / "lottery_ticket.yaml"
NAME = "lottery-ticket-search"
SEARCHED_SEED = 0
FIGURES = ("val/accuracy", "sparsity", "steps_trained")


def verb(*arguments: str, options: argparse.Namespace) -> dict[str, Any]:
    """One command of prune-search on the storage, its JSON."""
    command = [sys.executable, "-m", "prune_search", *arguments, "--storage", options.storage, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def search(options: argparse.Namespace) -> None:
    """Launch the search, or go on with it, and print its leaderboard."""
    searches = verb("list", options=options)["searches"]
    state = next((found["state"] for found in searches if found["name"] == NAME), None)
    if state is None:
        outcome = verb("launch", str(SPACE), "--name", NAME, "--data-root", options.data_root, options=options)
    elif state != "finished":
        outcome = verb("resume", NAME, options=options)
    else:
        outcome = {}
    if outcome:
        figures = {key: outcome[key] for key in ("trials", "steps_trained", "steps_saved", "wall_s")}
        print("search: " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    board = verb("compare", NAME, options=options)
    print(f"objectives {board['objectives']}  constraints {board['constraints']}")
    for row in [*board["controls"], *board["rows"]]:
        shown = "  ".join(f"{name} {row['metrics'][name]:.4f}" for name in FIGURES if name in row["metrics"])
        best = "  <- winner" if row["key"] == board["best"] and "rank" in row else ""
        print(f"{row['name']:36} {row['status']:10} {shown}  {row.get('params', '')}{best}", flush=True)
    if not board["constraints_met"]:
        sys.exit("no trial meets the constraints")


def main() -> None:
    """Print the leaderboard, one line per run on a new seed and a table of means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--storage", required=True, help="a folder; its networks are exported to FOLDER/exported")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    options = parser.parse_args()
    search(options)
    exported = Path(options.storage) / "exported"
    recipes = {}
    for name, trial in {"winner": [], "dense, same total steps": ["--trial", "control-dense-long"]}.items():
        folder = exported / name.split(",")[0]
        result = verb("export", NAME, "--to", str(folder), *trial, options=options)
        recipes[name] = [str(folder / "recipe.yaml")]
        print(line(SEARCHED_SEED, f"{name} (searched)", result), flush=True)
    accuracy: dict[str, list[float]] = {name: [] for name in recipes}
    for seed in options.seeds:
        steps = set()
        for name, recipe in recipes.items():
            result = run(recipe, options, seed)
            accuracy[name].append(100 * result["metrics"]["test/accuracy"])
            steps.add(result["metrics"]["steps_trained"])
            print(line(seed, name, result), flush=True)
        if len(steps) != 1:
            sys.exit(f"the two were trained for different numbers of steps: {sorted(steps)}")
    show_means(accuracy)
    ticket, dense = (statistics.mean(values) for values in accuracy.values())
    print(f"\nwinner minus dense of equal total steps: {ticket - dense:+.2f} points")


if __name__ == "__main__":
    main()
