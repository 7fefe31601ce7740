"""The registered values of training are listed without paying for torch."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import sys
from prune_search.recipe.axes import AUGMENTATIONS, INITS, LOSSES, OPTIMIZERS, SCHEDULES
for axis in (INITS, OPTIMIZERS, SCHEDULES, AUGMENTATIONS, LOSSES):
    print(axis.key, *sorted(axis))
import prune_search.training.batchnorm, prune_search.training.environment
SCHEDULES["cosine"].make(0.1, 100, 10)(3)
print("torch" in sys.modules)
"""


def test_the_registry_is_read_and_a_schedule_made_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == [
        "train.init as-built edge-of-chaos functional-prior kaiming kaiming-uniform normal signed-constant xavier",
        "train.optimizer adam adamw muon rmsprop sgd sghmc",
        "train.schedule constant cosine one-cycle step",
        "train.augment crop-flip flip gaussian-noise none",
        "mask.score.loss binary-cross-entropy causal-language-model cross-entropy distillation huber l1 model mse "
        "nll-logits",
        "False",
    ], done.stderr
