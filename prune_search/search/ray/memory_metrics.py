"""Memory of the process and of its device as additional metrics, on request."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import device

MIB = 2.0**20
# In what the system counts the peak of a process.
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024

Figures = Callable[[], Mapping[str, float]]


def system_figures(where: device) -> Figures:
    """A function that looks at the memory, in MiB.

    Args:
        where: the trial's device; the peak of what is allocated there begins anew.

    Returns:
        Its keys: ``memory_peak_mib``, of the process since it began; and on a CUDA device ``gpu_memory_peak_mib``,
        which torch has allocated for this trial at most, and ``gpu_memory_used_mib``, of the device by all on it.
    """
    import torch

    if where.type != "cuda":
        return _process
    torch.cuda.reset_peak_memory_stats(where)

    def figures() -> Mapping[str, float]:
        free, total = torch.cuda.mem_get_info(where)
        allocated = torch.cuda.max_memory_allocated(where)
        return {**_process(), "gpu_memory_peak_mib": allocated / MIB, "gpu_memory_used_mib": (total - free) / MIB}

    return figures


def _process() -> Mapping[str, float]:
    return {"memory_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT / MIB}
