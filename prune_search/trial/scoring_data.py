"""The data on which a mask is scored, determined only by step, round and iteration."""

from __future__ import annotations

from typing import Any

import torch

from prune_search.pruning.mask.rule import ScoringData
from prune_search.pruning.mask.scoring import Batches
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.request import Request
from prune_search.tasks.structures import mapped, tensors_in
from prune_search.training.loop import Feed
from prune_search.training.randomness import derive, generator
from prune_search.trial.data_and_network import TrialData
from prune_search.trial.setup import TrialSetup


def scoring_data(setup: TrialSetup, round_number: int, *words: str | int) -> ScoringData:
    """What a criterion is shown in a round; `words` tell the events of a dynamics from each other."""
    score = setup.recipe.mask.score
    stream = ("score", round_number, *words)
    data, seed = setup.data, setup.recipe.seed
    split = data.train
    plain = Feed(split, setup.recipe.train.batch, seed, stream)
    single = Feed(split, 1, seed, stream)

    def batches(iteration: int) -> Batches:
        if score.calibration is not None:
            examples, length = score.calibration
            _check_enough(len(split), examples)
            return [_cut(single((iteration - 1) * examples + number), length) for number in range(examples)]
        if score.per_class is not None:
            return [_per_class(data, score.per_class, seed, (*stream, iteration))]
        count = score.batches
        return [plain((iteration - 1) * count + number) for number in range(count)]

    return ScoringData(batches, setup.output_layer, seed, round_number, lambda: split.first(1), workers=setup.workers)


def _check_enough(known: int, examples: int) -> None:
    """Refuse to see examples twice; a stream does not say how many it has, which is 0 here.

    Raises:
        UserError: there are fewer than asked for.
    """
    if 0 < known < examples:
        text = f"is {examples}, and the training data have {known} examples"
        raise UserError([Problem("mask.score.calibration.examples", text)])


def _cut(batch: tuple[Any, Any], length: int | None) -> tuple[Any, Any]:
    """The first tokens of the sequences in a batch: of integers [B, L] at most `length`.

    Raises:
        UserError: it has no such sequences.
    """
    if length is None:
        return batch

    def has_tokens(tensor: torch.Tensor) -> bool:
        return tensor.dim() == 2 and not tensor.is_floating_point()

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[:, :length] if has_tokens(tensor) else tensor

    if not any(has_tokens(tensor) for tensor in tensors_in(batch[0])):
        text = "cuts sequences of tokens, and the inputs of this task have none; leave it out"
        raise UserError([Problem("mask.score.calibration.length", text)])
    return mapped(batch[0], cut), mapped(batch[1], cut)


def _per_class(data: TrialData, count: int, seed: int, words: tuple[str | int, ...]) -> tuple[Any, Any]:
    """`count` training examples of every class, or all of a class that has fewer, as one batch.

    Raises:
        UserError: the task has no classes that are known without reading all of its examples.
    """
    labels = data.class_labels()
    if labels is None:
        text = "needs a class for each example, which this task does not have, or not in memory: use mask.score.batches"
        raise UserError([Problem("mask.score.per_class", text)])
    order = torch.randperm(len(labels), generator=generator(seed, *words)).to(labels.device)
    labels = labels[order]
    chosen = torch.cat([order[labels == label][:count] for label in range(data.classes)])
    read = data.train.reader(lambda _: Request(chosen, lambda: derive(seed, "read", *words)), len(chosen), False)
    return read(0)
