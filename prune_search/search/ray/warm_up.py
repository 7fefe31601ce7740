"""Imports everything that a worker needs before its first step, which takes seconds."""

from __future__ import annotations

import torch

import prune_search.trial.run  # noqa: F401
from prune_search.training.compiler_import import postpone_compiler_import

postpone_compiler_import()
# The first optimizer of a process imports more of torch.
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
