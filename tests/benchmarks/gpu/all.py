"""What a GPU gives, in one run with torch alone: no ray, optuna or mlflow is imported.

    python tests/benchmarks/gpu/all.py | tee tests/benchmarks/records/gpu.log          (under ten minutes on one GPU)
    python tests/benchmarks/gpu/all.py --device cpu --dry                              (seconds; what a test runs)

Parts: the training loop against a bare one and a masked step against a dense one, in fp32 and bf16 and channels_last;
what masks cost (SynFlow, Wanda, SparseGPT); whether masks are the same again; 2:4 kernels beside dense ones; a compact
network beside the dense one, eager, compiled and as a CUDA graph; and how many small trials fill the device. Loops take
turns over short pieces, and figures are medians of the pieces' ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import prune_search
from prune_search.compact.cutting import compact
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe.axes import MODELS
from prune_search.tasks.data import Split
from prune_search.training.environment import autocast
from prune_search.training.loop import Course, Feed, Network, train


@dataclass(frozen=True)
class Size:
    """How large things are.

    Attributes:
        batch: pictures in a batch.
        width: of the residual network's first stage.
        hidden: of the language model.
        blocks: of the language model.
        tokens: of an example.
        steps: in a piece.
        pieces: that are timed.
    """

    batch: int = 256
    width: int = 16
    hidden: int = 512
    blocks: int = 8
    tokens: int = 256
    steps: int = 20
    pieces: int = 11


DRY = Size(batch=8, width=4, hidden=32, blocks=2, tokens=16, steps=2, pieces=2)
CLASSES, VOCABULARY = 10, 256


class Block(nn.Module):
    """Attention and a gated unit, each on the normalized stream."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to the same."""
        batch, tokens, hidden = x.shape
        heads = self.qkv(self.norms[0](x)).view(batch, tokens, 3, max(1, hidden // 64), -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, hidden))
        changed: Tensor = x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))
        return changed


class Gpt(nn.Module):
    """A small language model over bytes."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, size.hidden)
        self.blocks = nn.ModuleList(Block(size.hidden) for _ in range(size.blocks))
        self.head = nn.Linear(size.hidden, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T] to [B, T, V]."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(x)
        return scores


def pictures(size: Size, device: torch.device) -> tuple[nn.Module, Split]:
    """A ResNet-20 and drawn pictures of CIFAR-10's shape."""
    torch.manual_seed(0)
    entry = MODELS["resnet-20"]
    defaults = {name: option.default for name, option in entry.options.items()}
    model = entry.make((3, 32, 32), CLASSES, **{**defaults, "width": size.width}).to(device)
    count = size.batch * (size.steps + 1)
    return model, Split(torch.randn(count, 3, 32, 32), torch.randint(CLASSES, (count,))).to(device)


def texts(size: Size, device: torch.device) -> tuple[nn.Module, Split]:
    """The language model and drawn bytes; the target is the byte that comes next."""
    torch.manual_seed(0)
    batch = max(2, size.batch // 16)
    tokens = torch.randint(VOCABULARY, (batch * (size.steps + 1), size.tokens + 1))
    return Gpt(size).to(device), Split(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()).to(device)


def loss_of(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the last dimension of the scores."""
    return nn.functional.cross_entropy(scores.flatten(0, -2), targets.flatten())


def bare(model: nn.Module, split: Split, batch: int, steps: int, precision: str) -> Callable[[], None]:
    """The loop that a user would write."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    context = autocast(split.device, precision)

    def piece() -> None:
        model.train()
        order = torch.randperm(len(split)).to(split.device)
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            with context():
                loss = loss_of(model(split.inputs[chosen]), split.labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return piece


def ours(
    model: nn.Module, split: Split, batch: int, steps: int, precision: str, masked: bool = False
) -> Callable[[], None]:
    """The project's loop, dense or under a global magnitude mask of 90 %."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    hooks = []
    if masked:
        mask = prune_search.find_mask(model, "magnitude", 0.9, batches=[(split.inputs[:2], split.labels[:2])])
        mask.apply(model)
        hooks = [MaskKeeper(model, mask, optimizer).hook()]
    network = Network(model, split.device, autocast(split.device, precision), loss_of)
    course = Course(optimizer, Feed(split, batch, 0), 0, lambda step: 0.01, hooks)

    def piece() -> None:
        train(network, course, 0, steps)

    return piece


def timed(piece: Callable[[], object], device: torch.device) -> float:
    """Seconds of one piece, to its end on the device."""
    synchronize(device)
    begun = time.perf_counter()
    piece()
    synchronize(device)
    return time.perf_counter() - begun


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def in_turns(pieces: Sequence[Callable[[], object]], device: torch.device, count: int) -> list[list[float]]:
    """Seconds of each piece, `count` times in turns after one that is not counted."""
    for piece in pieces:
        timed(piece, device)
    return [[timed(piece, device) for piece in pieces] for _ in range(count)]


def show(ratios: list[float]) -> str:
    """Median, minimum and maximum."""
    return f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"


def loops(size: Size, device: torch.device) -> Iterator[str]:
    """Our loop over a bare one, masked over dense, and each precision and layout over fp32."""
    for name, make in (("resnet-20", pictures), ("small GPT", texts)):
        dense_s = 0.0
        for precision, last in (("fp32", False), ("bf16", False), ("bf16", True)):
            if last and name != "resnet-20":
                continue
            made = []
            for kind in (bare, ours, partial(ours, masked=True)):
                model, split = make(size, device)
                if last:
                    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                    inputs = split.inputs.contiguous(memory_format=torch.channels_last)
                    split = Split(inputs, split.labels)
                made.append(kind(model, split, len(split) // (size.steps + 1), size.steps, precision))
            times = in_turns(made, device, size.pieces)
            step = statistics.median(row[0] for row in times) / size.steps
            dense_s = dense_s or step
            layout = ", channels_last" if last else ""
            yield (
                f"{name:10} {precision}{layout:15} bare step {1000 * step:8.3f} ms ({dense_s / step:.2f}x fp32)   "
                f"our loop / bare {show([row[1] / row[0] for row in times])}   "
                f"masked / dense {show([row[2] / row[1] for row in times])}"
            )


def masks(size: Size, device: torch.device) -> Iterator[str]:
    """What masks cost, and whether they are the same again."""
    model, split = pictures(size, device)
    batches = [(split.inputs[: size.batch], split.labels[: size.batch])]
    rounds = 100 if size.steps > DRY.steps else 3
    schedule = {"name": "exponential", "iterations": rounds}
    asked: list[tuple[str, dict[str, Any]]] = [("magnitude", {}), ("snip", {}), ("synflow", {"schedule": schedule})]
    for name, options in asked:
        ask = partial(prune_search.find_mask, model, name, 0.9, batches=batches, **options)
        yield f"{name:10} on resnet-20   {twice(ask, ask, device)}"
    for name in ("wanda", "sparsegpt"):
        both: list[Callable[[], Any]] = []
        for _ in range(2):
            language, text = texts(size, device)
            inputs = [(part, part) for part in torch.split(text.inputs, 4)][:8]
            both.append(partial(prune_search.prune_blocks, language, name, 0.5, batches=inputs))
        yield f"{name:10} on the GPT     {twice(both[0], both[1], device)}"


def twice(first: Callable[[], Any], second: Callable[[], Any], device: torch.device) -> str:
    """How long the first takes, and whether the second finds the same mask."""
    found: list[str] = []
    seconds = timed(lambda: found.append(first().sha256), device)
    return f"{seconds:8.3f} s   the same again: {'yes' if found[0] == second().sha256 else 'NO'}"


def semi_structured(size: Size, device: torch.device) -> Iterator[str]:
    """A linear layer of 2:4 weights in the hardware's sparse kernel beside the dense one."""
    if device.type != "cuda":
        yield "2:4 kernels need a GPU: not run"
        return
    for width in (1024, 4096, 8192):
        weight = torch.randn(width, width, device=device, dtype=torch.float16)
        mask = torch.zeros_like(weight, dtype=torch.bool)
        order = weight.abs().reshape(-1, 4).argsort(dim=1)[:, 2:]
        mask.reshape(-1, 4).scatter_(1, order, True)
        x = torch.randn(4096, width, device=device, dtype=torch.float16)
        sparse = torch.sparse.to_sparse_semi_structured(weight * mask)
        pieces: list[Callable[[], object]] = [
            partial(nn.functional.linear, x, weight * mask),
            partial(nn.functional.linear, x, sparse),
        ]
        times = in_turns([partial(repeat, piece, 20) for piece in pieces], device, size.pieces)
        yield f"2:4 linear {width:5}: sparse / dense {show([row[1] / row[0] for row in times])}"


def repeat(piece: Callable[[], object], count: int) -> None:
    """Do something several times."""
    for _ in range(count):
        piece()


def latencies(size: Size, device: torch.device, compiled: bool) -> Iterator[str]:
    """Half of the channels cut out of a ResNet-20: eager, compiled, and as a CUDA graph."""
    model, split = pictures(size, torch.device("cpu"))
    mask = prune_search.find_mask(model, "l1", 0.5, granularity="channel", example_input=split.inputs[:2])
    mask.apply(model)
    small = compact(model.eval(), (3, 32, 32)).to(device)
    model = model.to(device).eval()
    ways: dict[str, Callable[..., Any]] = {"eager": eager, **({"compiled": torch.compile} if compiled else {})}
    ways |= {"CUDA graph": graphed} if device.type == "cuda" else {}
    for batch in (1, size.batch):
        x = torch.randn(batch, 3, 32, 32, device=device)
        for name, way in ways.items():
            with torch.no_grad():
                pieces = [
                    partial(repeat, partial(made, x), 10) for made in (wayed(way, one, x) for one in (model, small))
                ]
                times = in_turns(pieces, device, size.pieces)
            dense = statistics.median(row[0] for row in times) / 10
            yield (
                f"batch {batch:4} {name:10} dense {1000 * dense:8.3f} ms   "
                f"compact / dense {show([row[1] / row[0] for row in times])}"
            )


def eager(model: nn.Module) -> Callable[[Tensor], Any]:
    """The network as it is."""
    return model


def graphed(model: nn.Module) -> Callable[[Tensor], Any]:
    """A stand-in: `wayed` captures it."""
    return model


def wayed(way: Callable[..., Any], model: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    """The network as it is run in one way, for inputs of one shape."""
    if way is not graphed:
        made: Callable[[Tensor], Any] = way(model)
        return made
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x)
    return lambda _: graph.replay()


def packed(size: Size, device: torch.device) -> Iterator[str]:
    """How many processes that each train a ResNet-20 fill the device: steps a second of all of them together."""
    context = multiprocessing.get_context("spawn")
    alone = 0.0
    for count in (1, 2, 4, 8) if size.steps > DRY.steps else (1,):
        with context.Pool(count) as pool:
            ready = context.Manager().Barrier(count) if count > 1 else None
            rates = pool.map(partial(trained, size=size, device=str(device), ready=ready), range(count))
        total = sum(rates)
        alone = alone or total
        yield f"{count} trials at once: {total:8.1f} steps/s together, {total / alone:.2f}x one alone"


def trained(place: int, size: Size, device: str, ready: Any) -> float:
    """Steps a second of one trial, after a piece that is not counted; all begin together."""
    del place
    where = torch.device(device)
    model, split = pictures(size, where)
    piece = ours(model, split, size.batch, size.steps, "fp32")
    timed(piece, where)
    if ready is not None:
        ready.wait()
    begun, steps = time.perf_counter(), 0
    while steps < size.steps * size.pieces:
        timed(piece, where)
        steps += size.steps
    return steps / (time.perf_counter() - begun)


def main() -> None:
    """Print a line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=None, help="with torch.compile")
    options = parser.parse_args()
    size, device = DRY if options.dry else Size(), torch.device(options.device)
    compiled = device.type == "cuda" if options.compiled is None else options.compiled
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__} on {name}; median [min, max] of {size.pieces} pieces")
    parts: dict[str, Iterator[str]] = {
        "training": loops(size, device),
        "masks": masks(size, device),
        "2:4": semi_structured(size, device),
        "compact": latencies(size, device, compiled),
        "packed": packed(size, device),
    }
    for title, lines in parts.items():
        print(f"\n{title}", flush=True)
        begun = time.perf_counter()
        for line in lines:
            print(f"  {line}", flush=True)
        print(f"  ({time.perf_counter() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
