"""What a worker imports before its first step: several seconds. Ray's first workers do it while the driver starts.

Importing this module does it.
"""

from __future__ import annotations

import ray.tune  # noqa: F401
import torch

import prune_search.trial.run  # noqa: F401

# The first optimizer of a process imports the greater part of torch.
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
