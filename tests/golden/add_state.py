"""Makes the golden state of format 1: ``python tests/golden/add_state.py``.

Only for a new format: a state that is in the repository is never written anew, since old storages must stay readable.
"""

from __future__ import annotations

from pathlib import Path

import torch

from prune_search.storage.states import state_folder, write_state

PLACE = Path(__file__).parent / "state_1"
META = {"step": 3, "ended": False, "stretch": "train", "environment": {"device": "cpu", "threads": 1}}


def tensors() -> dict[str, torch.Tensor]:
    """One of every kind that a state holds."""
    return {
        "model/fc.weight": torch.tensor([[0.5, -1.25], [0.0, 3.0]]),
        "model/norm.num_batches_tracked": torch.tensor(3),
        "optimizer/fc.weight/momentum_buffer": torch.tensor([[0.1, 0.2], [0.3, 0.4]]),
        "hook/mask/mask/fc.weight": torch.tensor([[True, True], [False, True]]),
        "hook/mask/asked": torch.tensor([3.0, 0.25], dtype=torch.float64),
    }


if __name__ == "__main__":
    write_state(state_folder(PLACE, 3), tensors(), META)
