"""Lottery tickets by stock Ray Tune, without sharing, as a user would write it: beside `sharing.py`.

    python tests/benchmarks/sharing/stock_tune.py --data-root FOLDER_OF_FASHION_MNIST [--trials 8]

Each trial trains from scratch and through all its rounds, with torch.nn.utils.prune and a plain loop, in a worker of
its own. Prints seconds per training step inside trials, and wall seconds per trial.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from torch import nn
from torch.nn.utils import prune

STEPS, BATCH, RATE = 60, 128, 0.1


def lottery_ticket(config: dict[str, Any]) -> None:
    """One trial: train, then prune a fifth and rewind, `rounds` times."""
    from prune_search.recipe.recipe import Recipe
    from prune_search.tasks.data import DataSet
    from prune_search.trial.data_and_network import Code, read_data

    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = Recipe.read({"task": {"data": "fashion-mnist"}, "mask": MASK, "weights": {"at": "end"}, "retrain": "none"})
    data = read_data(recipe, Path(config["data_root"]), Code())
    if not isinstance(data, DataSet):
        raise TypeError("the bare loop takes arrays")
    inputs, labels = data.train.inputs, data.train.labels
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    layers = [(module, "weight") for module in model if isinstance(module, nn.Linear)]
    steps, begun = 0, time.perf_counter()
    first: dict[str, Any] = {}
    for round_number in range(config["rounds"] + 1):
        begin = 0 if round_number == 0 else config["rewind"]
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
        for step in range(begin, STEPS):
            if round_number == 0 and step == config["rewind"]:
                first = copy.deepcopy(model.state_dict())
            places = torch.randint(len(labels), (BATCH,), generator=torch.Generator().manual_seed(step))
            loss = nn.functional.cross_entropy(model(inputs[places]), labels[places])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
        if round_number < config["rounds"]:
            prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.2)
            own = model.state_dict()
            for name, tensor in first.items():
                own[f"{name}_orig" if f"{name}_orig" in own else name].copy_(tensor)
    with torch.no_grad():
        right = (model(data.validation.inputs).argmax(1) == data.validation.labels).float().mean()
    tune.report({"accuracy": float(right), "steps": steps, "seconds": time.perf_counter() - begun})


MASK = {"at": "end", "criterion": "magnitude", "sparsity": 0.5}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=8)
    given = parser.parse_args()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=2)
    rounds = [1 + index * 19 // max(1, given.trials - 1) for index in range(given.trials)]
    space = {"rounds": tune.grid_search(rounds), "rewind": 0, "data_root": str(given.data_root.absolute())}
    begun = time.perf_counter()
    results = tune.Tuner(lottery_ticket, param_space=space, run_config=tune.RunConfig(verbose=0)).fit()
    wall = time.perf_counter() - begun
    rows = [results[index].metrics or {} for index in range(len(results))]
    steps, seconds = sum(row["steps"] for row in rows), sum(row["seconds"] for row in rows)
    print(f"stock Ray Tune: {len(rows)} trials, {steps:,} steps, {1000 * seconds / steps:.2f} ms a step in trials")
    print(f"  wall {wall:.1f} s, {wall / len(rows):.2f} s a trial")
    ray.shutdown()


if __name__ == "__main__":
    main()
