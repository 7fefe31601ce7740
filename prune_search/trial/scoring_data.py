"""The data on which a mask is scored, determined only by step, round and iteration."""

from __future__ import annotations

import torch

from prune_search.pruning.mask.rule import ScoringData
from prune_search.pruning.mask.scoring import Batches
from prune_search.tasks.data import Split
from prune_search.training.loop import Feed
from prune_search.training.randomness import generator
from prune_search.trial.setup import TrialSetup


def scoring_data(setup: TrialSetup, round_number: int, *words: str | int) -> ScoringData:
    """What a criterion is shown in a round; `words` tell the events of a dynamics from each other."""
    score = setup.recipe.mask.score
    stream = ("score", round_number, *words)
    split, seed = setup.data.train, setup.recipe.seed
    plain = Feed(split, setup.recipe.train.batch, seed, stream)

    def batches(iteration: int) -> Batches:
        if score.per_class is not None:
            return [_per_class(split, setup.data.classes, score.per_class, seed, (*stream, iteration))]
        count = score.batches
        return [plain((iteration - 1) * count + number) for number in range(count)]

    return ScoringData(batches, setup.output_layer, seed, round_number, lambda: split.inputs[:1])


def _per_class(
    split: Split, classes: int, count: int, seed: int, words: tuple[str | int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` training examples of every class, or all of a class that has fewer, as one batch."""
    order = torch.randperm(len(split.labels), generator=generator(seed, *words)).to(split.labels.device)
    labels = split.labels[order]
    chosen = torch.cat([order[labels == label][:count] for label in range(classes)])
    return split.inputs[chosen], split.labels[chosen]
