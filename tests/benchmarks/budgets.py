"""What networks cost that were pruned to a budget, as a share of what was asked for.

    python tests/benchmarks/budgets.py | tee tests/benchmarks/records/budgets.log
    python tests/benchmarks/budgets.py --networks mlp --granularities channel --shares 0.5

Networks are drawn. Per network, granularity and scope a mask is found for every kind of budget and every share of the
dense network's cost; the removed units are cut out, and what is left is counted on the smaller network itself. A row
has the realised share over the asked one for the shares in order; a dash where so little cannot be kept. The rows
`knapsack (own)` are the budget that is an option of that scope, of which a share is one of the costs of its layers.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from breadth import made as of_breadth
from torch import nn

import prune_search
from prune_search.compact.metrics import compact_or_masked, sizes
from prune_search.pruning.structure.capture import quietly
from prune_search.recipe.problems import UserError
from prune_search.tasks.models.networks.vision_transformer import VisionTransformer

SHARES = (0.3, 0.5, 0.7, 0.8)
NEAR = 0.02


def _resnet() -> tuple[nn.Module, Any]:
    from prune_search.recipe.axes import MODELS

    made = MODELS["resnet-20"]
    return made.make(
        (3, 16, 16), 10, **{key: o.default for key, o in made.options.items()} | {"width": 8}
    ), torch.randn(4, 3, 16, 16)


def _vgg() -> tuple[nn.Module, Any]:
    layers: list[nn.Module] = []
    inputs = 3
    for width in (16, 16, 0, 32, 32, 0, 64, 64, 0):
        if width:
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4, 10)), torch.randn(4, 3, 16, 16)


def _mlp() -> tuple[nn.Module, Any]:
    layers = [nn.Flatten(), nn.Linear(64, 120), nn.ReLU(), nn.Linear(120, 60), nn.ReLU(), nn.Linear(60, 10)]
    return nn.Sequential(*layers), torch.randn(4, 1, 8, 8)


def _vit() -> tuple[nn.Module, Any]:
    return VisionTransformer(1, 16, 10, 4, 48, 4, 6, 96), torch.randn(4, 1, 16, 16)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "mlp": _mlp,
    "resnet-20": _resnet,
    "vgg": _vgg,
    "vit": _vit,
    "u-net": partial(of_breadth, "u-net"),
    "llama": partial(of_breadth, "llama"),
}
GRANULARITIES = {
    "mlp": ("filter", "channel", "neuron"),
    "resnet-20": ("filter", "channel"),
    "vgg": ("filter", "channel"),
    "vit": ("head", "neuron", "width", "depth"),
    "u-net": ("channel",),
    "llama": ("neuron", "width"),
}
KINDS = ("parameters", "flops", "memory")


def realised(model: nn.Module, masks: Any, example: Any) -> dict[str, float]:
    """Per kind, the share of the dense network's cost that the smaller one has."""
    masks.apply(model)
    small = compact_or_masked(model, example)
    found = sizes(model, masks, example, small)
    own = [sum(t.numel() * t.element_size() for t in one.state_dict().values()) for one in (small, model)]
    kinds = {kind: found[f"compact {kind}"] / found[f"dense {kind}"] for kind in ("parameters", "flops")}
    return {**kinds, "memory": own[0] / own[1]}


def _mask(model: nn.Module, example: Any, scope: Any, granularity: str, sparsity: Any) -> Any:
    target = torch.zeros(len(example), dtype=torch.long)
    with warnings.catch_warnings(), quietly():
        warnings.simplefilter("ignore")
        return prune_search.find_mask(
            model, "l2", sparsity, scope=scope, granularity=granularity, batches=[(example, target)], loss=_loss
        )


def _loss(outputs: Any, labels: Any) -> torch.Tensor:
    found = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    return found.float().square().mean()


def _asked(scope: str, kind: str, share: float) -> tuple[Any, Mapping[str, Any] | None]:
    if scope == "knapsack (own)":
        return {"name": "knapsack", "levels": 6, "budget": {kind: share}}, None
    least = {"name": scope, "least": 1}
    return {**least, **({"levels": 6} if scope == "knapsack" else {})}, {"budget": {kind: share}}


def ratios(name: str, granularity: str, scope: str, kind: str, shares: list[float]) -> list[float | None]:
    """Realised over asked, for every share."""
    found: list[float | None] = []
    torch.manual_seed(0)
    model, example = NETWORKS[name]()
    model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for share in shares:
        model.load_state_dict(before)
        try:
            asked, sparsity = _asked(scope, kind, share)
            masks = _mask(model, example, asked, granularity, sparsity)
        except UserError:
            found.append(None)
            continue
        with warnings.catch_warnings(), quietly():
            warnings.simplefilter("ignore")
            found.append(realised(model, masks, example)[kind] / share)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--granularities", nargs="*", default=None)
    parser.add_argument("--scopes", nargs="*", default=["uniform", "global", "knapsack", "knapsack (own)"])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--shares", nargs="*", type=float, default=list(SHARES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'network':10s} {'granularity':11s} {'scope':14s} {'budget':10s} realised / asked at {given.shares}")
    near: dict[str, list[bool]] = {}
    for name in given.networks:
        for granularity in given.granularities or GRANULARITIES[name]:
            for scope in given.scopes:
                for kind in given.kinds:
                    if scope == "knapsack (own)" and kind == "memory":
                        continue
                    some = ratios(name, granularity, scope, kind, given.shares)
                    told = "  ".join("    -" if one is None else f"{one:.3f}" for one in some)
                    print(f"{name:10s} {granularity:11s} {scope:14s} {kind:10s} {told}", flush=True)
                    near.setdefault(scope, []).extend(abs(one - 1) <= NEAR for one in some if one is not None)
    for scope, all_of_them in near.items():
        print(f"{scope}: {sum(all_of_them)} of {len(all_of_them)} within {NEAR:.0%}")


if __name__ == "__main__":
    main()
