"""The presets are what the specification of the recipe format says they are, word for word.

Where each value is from is told by ``tests/unit/pruning/presets/paper_values.csv``.
"""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import inspect
from prune_search.recipe.strict_yaml import load

# The example at the top of the specification.
EXAMPLE = """
schema: 1
task:    {data: fashion-mnist, model: lenet-300-100, seed: 0}
train:   {steps: 10ep, batch: 128, init: kaiming, optimizer: {name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 5.0e-4},
          schedule: {name: step, at: [50%, 75%], factor: 0.1}, precision: fp32, threads: 1, augment: none}
mask:    {at: end, criterion: magnitude, sparsity: {per_round: 0.2}, scope: global, granularity: weight}
weights: {at: {hole: choice, of: [0it, 100it, 1ep, end]}}
retrain: {until: end, clock: {hole: choice, of: [0it, 1ep, end-5ep]}}
rounds:  {hole: int, low: 1, high: 11}
search:  {sampler: tpe, scheduler: none, trials: 40, concurrency: 2, objectives: [maximize val/accuracy, maximize sparsity], seed: 0}
"""  # noqa: E501 - as in the specification

# Every paradigm of the specification. Those that are not registered yet are tested when they are.
PARADIGMS = """
dense:                                         # control
  mask: {at: end, criterion: all, sparsity: 0}
  weights: {at: end}
  retrain: none
random:                                        # control
  mask: {at: 0it, criterion: random, sparsity: 0.9, scope: erk}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
magnitude-after-training:
  mask: {at: end, criterion: magnitude, sparsity: 0.9, scope: global}
  weights: {at: end}
  retrain: {steps: 5ep, clock: {hold: 0.001}}
lottery-ticket:
  mask: {at: end, criterion: magnitude, sparsity: {per_round: 0.2}, scope: global}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
  rounds: 11                                   # 1 - .8^11 = .914
late-rewinding:
  mask: {at: end, criterion: magnitude, sparsity: {per_round: 0.2}, scope: global}
  weights: {at: 2%}
  retrain: {until: end, clock: 2%}
  rounds: 11
fine-tune:                                     # Renda's three
  mask: {at: end, criterion: magnitude, sparsity: 0.9, scope: global}
  weights: {at: end}
  retrain: {steps: 4ep, clock: {hold: final}}
weight-rewinding:
  mask: {at: end, criterion: magnitude, sparsity: 0.9, scope: global}
  weights: {at: end-4ep}
  retrain: {until: end, clock: end-4ep}
learning-rate-rewinding:
  mask: {at: end, criterion: magnitude, sparsity: {per_round: 0.2}, scope: global}
  weights: {at: end}
  retrain: {until: end, clock: end-4ep}
  rounds: 11
early-bird:
  train: {batchnorm_l1: 1.0e-4}
  mask: {at: {stable: mask-distance, below: 0.1, window: 5ep, latest: 50%}, criterion: batchnorm-scale, sparsity: 0.5, scope: global, granularity: channel}
  weights: {at: mask}                          # k2 = k1, wherever that was found
  retrain: {until: end, clock: mask}
snip:
  mask: {at: 0it, criterion: snip, score: {batches: 1, loss: cross-entropy, mode: train}, sparsity: 0.95, scope: global}
  weights: {at: 0it}                           # the TensorFlow reference: transform: [reinit]
  retrain: {until: end, clock: 0it}
grasp:
  mask: {at: 0it, criterion: {name: grasp, temperature: 200}, score: {per_class: 10}, sparsity: 0.95, scope: global}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
synflow:
  mask: {at: 0it, criterion: {name: synflow, dtype: float64}, score: {iterations: 100, path: exponential, nested: true, mode: eval}, sparsity: 0.98, scope: global}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
force:                                         # snip, iterated, not nested
  mask: {at: 0it, criterion: snip, score: {iterations: 60, path: exponential, nested: false}, sparsity: 0.99, scope: global}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
iterative-snip:                                # snip, iterated, nested
  mask: {at: 0it, criterion: snip, score: {iterations: 60, path: exponential, nested: true}, sparsity: 0.99, scope: global}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
greg-1:
  mask: {at: end, criterion: l1, sparsity: 0.5, scope: {name: uniform, exclude: [first]}, granularity: filter, rounding: floor-keep}
  weights: {at: end, transform: [{name: growing-penalty, step: 1.0e-4, every: 10it, ceiling: 1.0, stabilise: 10000it, optimizer: {lr: 1.0e-3}}]}
  retrain: {steps: 120ep, schedule: {name: step, rates: [1.0e-2, 1.0e-3, 1.0e-4], at: [60ep, 90ep]}}
greg-2:
  mask: {at: end, prepare: {name: rising-penalty, step: 1.0e-5, every: 10it, until: 1.0e-2, hold: false, optimizer: {lr: 1.0e-3}}, criterion: l1, sparsity: 0.5, scope: {name: uniform, exclude: [first]}, granularity: filter, rounding: floor-keep}
  weights: {at: prepared, transform: [{name: growing-penalty, step: 1.0e-4, every: 10it, ceiling: 1.0, kept: -1.0e-4, hold: 10it, stabilise: 10000it, optimizer: {lr: 1.0e-3}}]}
  retrain: {steps: 120ep, schedule: {name: step, rates: [1.0e-2, 1.0e-3, 1.0e-4], at: [60ep, 90ep]}}
gradual-magnitude:
  mask: {at: 0it, criterion: all, sparsity: 0.9, scope: uniform}        # everything is kept at k1
  weights: {at: 0it}
  retrain: {until: end, clock: 0it, dynamics: {name: gradual, criterion: magnitude, path: cubic, from: 5%, until: 75%, every: 5%}}
set:
  mask: {at: 0it, criterion: random, sparsity: 0.9, scope: er}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it, dynamics: {name: set, drop: 0.3, every: 1ep, until: end, signs: apart}}
rigl:
  mask: {at: 0it, criterion: random, sparsity: 0.9, scope: erk}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it, dynamics: {name: rigl, drop: 0.3, anneal: cosine, every: 10%, until: 75%}}
snfs:
  mask: {at: 0it, criterion: random, sparsity: 0.95, scope: uniform}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it, dynamics: {name: snfs, drop: 0.5, anneal: cosine, to: 0.005, every: 1ep}}
deepr:
  train: {schedule: constant}
  mask: {at: 0it, criterion: random, sparsity: 0.9, scope: erk}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it, optimizer: {name: sgd, lr: 0.5, momentum: 0, weight_decay: 0}, dynamics: {name: deepr, alpha: 1.0e-5, temperature: 2.5e-11}}
gibbs:
  mask: {at: 0it, criterion: all, sparsity: 0.9, scope: {name: uniform, exclude: [first, last]}}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it, dynamics: {name: gibbs, hamiltonian: weight, beta: {path: exponential, from: 1.0, to: 1.0e+4, until: 64%, last: before}, coupling: 1.0, finish: deterministic}}
edge-popup:
  train: {steps: 0it, init: signed-constant}
  mask: {at: 0it, criterion: {name: edge-popup, steps: 10ep, optimizer: {name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 1.0e-4}, schedule: cosine}, sparsity: 0.5, scope: uniform}
  weights: {at: 0it}
  retrain: none
supermask:
  train: {steps: 0it}
  mask: {at: 0it, criterion: {name: supermask, steps: 10ep, optimizer: {name: sgd, lr: 100.0, momentum: 0.9, weight_decay: 0}, sign_constant: true}, sparsity: learned, scope: learned}
  weights: {at: 0it}
  retrain: none
gumbel-mask:                                   # Optimal Eye Surgeon
  train: {steps: 0it}
  mask: {at: 0it, criterion: {name: gumbel, temperature: 0.2, kl: 1.0e-9, steps: 2000it, optimizer: {name: adam, lr: 0.01}}, sparsity: 0.95, scope: global}
  weights: {at: 0it}
  retrain: {steps: 1500it, clock: {hold: 0.01}, optimizer: {name: adam, lr: 0.01}}
scratch-e:
  mask: {at: end, criterion: l1, sparsity: 0.5, scope: uniform, granularity: filter}
  weights: {at: 0it, transform: [reinit]}
  retrain: {until: end, clock: 0it}
scratch-b:
  mask: {at: end, criterion: l1, sparsity: 0.5, scope: uniform, granularity: filter}
  weights: {at: 0it, transform: [reinit]}
  retrain: {steps: {same_flops_as: train, at_most: 2.0}, clock: 0it, stretch: true}
obs:
  mask: {at: end, criterion: {name: obs, block: 256, damping: 1.0e-4}, score: {batches: 16}, sparsity: 0.5, scope: uniform}
  weights: {at: end, transform: [obs-compensation]}
  retrain: {steps: 1ep, clock: {hold: final}}
thinet:
  mask: {at: end, criterion: {name: output-reconstruction, samples: 1000}, sparsity: 0.5, scope: {name: uniform, order: sequential}, granularity: channel}
  weights: {at: end, transform: [least-squares-scaling]}
  retrain: {steps: 2ep, clock: {hold: final}}
sbp-sr:
  task: {model: {name: resnet-20, residual_scale: inverse-sqrt-depth}}
  train: {init: {name: edge-of-chaos, sigma_b: 0.0}}
  mask: {at: 0it, criterion: snip, sparsity: 0.99, scope: global}
  weights: {at: 0it, transform: [edge-of-chaos-rescale]}
  retrain: {until: end, clock: 0it}
constrained-rl:
  mask: {at: end, criterion: magnitude, sparsity: {by: scope}, scope: {name: ppo-lagrangian, budget: {parameters: 0.1}, episodes: 1000, reward_steps: 32it}}
  weights: {at: end}
  retrain: {steps: 5ep, clock: {hold: final}}
fuse-init:
  mask: {at: end, criterion: last, sparsity: {layers: 1}, granularity: layer}
  weights: {at: end, transform: [{name: fuse, ridge: 1.0e-6, samples: 5000}]}
  retrain: {until: end, clock: 0it}
  rounds: 3
functional-prior:
  train: {init: {name: functional-prior, gp: {kernel: rbf}}, optimizer: {name: sgd, lr: 0.1, weight_decay: from-prior}}
  mask: {at: 0it, criterion: snip, sparsity: 0.9, scope: global}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
deep-inverse-prior:
  task: {data: {name: denoise, picture: china, sigma: 0.1, validate: held-out-pixels}, model: skip-net}
  train: {steps: 600it, batch: 1, init: kaiming-uniform, optimizer: {name: adam, lr: 0.01, weight_decay: 0.0}, schedule: constant}
  mask: {at: end, criterion: magnitude, sparsity: {per_round: 0.2}, scope: global}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
  rounds: 8
random-global:
  task: {data: sparse-signal, model: two-layer}
  train: {steps: 2000it, batch: 10, init: {name: normal, std: 0.03}, optimizer: {name: sgd, lr: 0.01, momentum: 0.0, weight_decay: 0.0}, schedule: constant}
  mask: {at: 0it, criterion: random, sparsity: 0.95, scope: global}
  weights: {at: 0it}
  retrain: {until: end, clock: 0it}
wanda:
  train: {from: model, batch: 1}
  mask: {at: end, criterion: wanda, score: {calibration: {examples: 128}, mode: eval}, sparsity: 0.5, scope: {name: uniform, order: blocks}}
  weights: {at: end}
  retrain: none
sparsegpt:
  train: {from: model, batch: 1}
  mask: {at: end, criterion: {name: sparsegpt, damping: 0.01, columns: 128}, score: {calibration: {examples: 128}, mode: eval}, sparsity: 0.5, scope: {name: uniform, order: blocks}}
  weights: {at: end, transform: [{name: sparsegpt, damping: 0.01, columns: 128}]}
  retrain: none
control-shuffle:                               # the same densities, another mask
  mask: {at: 0it, criterion: snip, sparsity: 0.9, scope: global, control: shuffle}     # or: invert, random (see Control)
  weights: {at: 0it, transform: [reinit]}
  retrain: {until: end, clock: 0it}
"""  # noqa: E501 - as in the specification

TEXTS: dict[str, dict[str, Any]] = load(PARADIGMS, mapping=True)


def test_every_preset_is_in_the_specification() -> None:
    assert set(axes.PRESETS) <= set(TEXTS)


@pytest.mark.parametrize("name", sorted(set(TEXTS) & set(axes.PRESETS)))
def test_a_preset_is_what_the_specification_says(name: str) -> None:
    assert Recipe.read(axes.PRESETS[name].make()).canonical == Recipe.read(TEXTS[name]).canonical


def test_presets_leave_out_a_clock_that_follows_the_weights() -> None:
    for name in ("random", "lottery-ticket", "late-rewinding", "weight-rewinding", "snip"):
        blocks = axes.PRESETS[name].make()
        assert "clock" not in blocks["retrain"]
        blocks["weights"]["at"] = "2ep"
        retrain = Recipe.read(blocks).retrain
        assert retrain is not None
        assert str(retrain.clock) == "2ep"


@pytest.mark.parametrize("name", sorted(axes.PRESETS))
def test_a_preset_is_its_own_paradigm(name: str) -> None:
    entry = axes.PRESETS[name]
    assert paradigm(Recipe.read(entry.make())) == (entry.facts.paradigm or name)


def test_the_example_of_the_specification_has_neither_errors_nor_warnings() -> None:
    space, problems = inspect(load(EXAMPLE, mapping=True), "example")
    assert space is not None
    assert space.has_holes
    assert problems == []
    assert space.search["trials"] == 40
