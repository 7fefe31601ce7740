"""Networks whose weights are sharded over workers with torch's `fully_shard` (FSDP2): each worker holds some rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from prune_search.recipe.problems import Problem, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed.tensor import DTensor
else:
    from prune_search.lazy import torch

WAYS = "find_mask, MaskHook and the dynamics gradual, rigl and set take sharded networks"


def is_shard(tensor: object) -> TypeGuard[DTensor]:
    """Whether a tensor is a DTensor, of which this worker holds a part."""
    # Who has none has not imported the module, which takes long.
    module: Any = sys.modules.get("torch.distributed.tensor")
    return isinstance(tensor, getattr(module, "DTensor", ()))


def is_sharded(model: nn.Module) -> bool:
    """Whether a network is sharded, be it that a forward pass has just gathered some of its weights."""
    return bool(_gathering(model)) or any(map(is_shard, model.parameters()))


def shard_network(model: nn.Module, parts: Sequence[nn.Module], device: torch.device) -> None:
    """Divide a network among all workers of torch's default process group, in place; they all call this.

    Repeated blocks are gathered one at a time in a pass, and what is outside of them together.

    Args:
        model: whole and the same on every worker, wherever it lies.
        parts: of it that gather their weights one at a time, such as its repeated blocks.
        device: where each worker's part comes to lie.

    Raises:
        UserError: torch cannot divide it, because it has a parameter that is a single number, say.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    try:
        for module in [*parts, model]:
            fully_shard(module, mesh=mesh)
    except (ValueError, NotImplementedError) as error:
        said = (str(error).splitlines() or [""])[0][:200]
        raise UserError([Problem("task.model", f"torch cannot shard this network: {said}")]) from error


def _gathering(model: nn.Module) -> list[Any]:
    """The modules that gather their weights for a pass."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(fsdp, "FSDPModule", ())
    return [module for module in model.modules() if isinstance(module, kind)]


def check_whole(model: nn.Module, path: str = "model") -> None:
    """Refuse a sharded network where every worker needs all of it.

    Raises:
        UserError: it is one.
    """
    if is_sharded(model):
        raise UserError([Problem(path, f"is sharded over workers, and this needs the whole network; {WAYS}")])


def resharded(model: nn.Module) -> None:
    """Give up what a forward pass has gathered: a root keeps its own weights whole for a backward pass.

    Only then are the parameters of the network those that the optimizer has, and that hold what is written to them.
    """
    for module in _gathering(model):
        module.reshard()


def part_of(tensor: Tensor) -> Tensor:
    """This worker's rows of a DTensor sharded by rows, in the memory where they lie; another tensor as it is."""
    alone = tensor.detach()
    return alone.to_local() if is_shard(alone) else alone


def differentiable_part(tensor: Tensor) -> Tensor:
    """`part_of` for what is differentiated: gradients of the part reach the tensor."""
    return tensor.to_local() if is_shard(tensor) else tensor


def first_row(tensor: Tensor, rank: int, size: int) -> int:
    """The number of the first row that a worker holds, as torch.chunk divides rows.

    Args:
        tensor: sharded by rows over `size` workers.
        rank: of the worker.
        size: how many workers.
    """
    rows = tensor.shape[0]
    return min(rank * -(-rows // size), rows)


def sharded_like(part: Tensor, tensor: Tensor) -> Tensor:
    """A DTensor that lies where another one does, from this worker's part [own rows, …] of it; of others, the part."""
    if not is_shard(tensor):
        return part
    from torch.distributed.tensor import DTensor

    found: Tensor = DTensor.from_local(
        part, tensor.device_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
    return found


def divided_like(whole: Tensor, tensor: Tensor) -> Tensor:
    """What each worker has whole [rows, …], as a DTensor that lies where another one does; of others, on its device."""
    if not is_shard(tensor):
        return whole.to(tensor.device)
    rank, size = tensor.device_mesh.get_local_rank(), tensor.device_mesh.size()
    own = whole[first_row(tensor, rank, size) : first_row(tensor, rank + 1, size)]
    return sharded_like(own.to(part_of(tensor).device), tensor)


def on_cpu(tensor: Tensor) -> Tensor:
    """A tensor on the CPU; of a DTensor, this worker's part stays where all its workers have theirs."""
    return tensor if is_shard(tensor) else tensor.cpu()


def gathered(tensor: Tensor) -> Tensor:
    """All of a tensor; of a DTensor, put together from all workers, which all call this."""
    return tensor.full_tensor() if is_shard(tensor) else tensor
