"""Networks whose weights are sharded over workers with torch's `fully_shard` (FSDP2): each worker holds some rows."""

from __future__ import annotations

import sys
from collections import Counter
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

    Repeated blocks are gathered one at a time in a pass, and what is outside of them together. So are blocks that share
    a parameter with what is outside of them: torch would make two of it.

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
        for module in [*_apart(model, parts), model]:
            fully_shard(module, mesh=mesh)
    except (ValueError, NotImplementedError) as error:
        said = (str(error).splitlines() or [""])[0][:200]
        raise UserError([Problem("task.model", f"torch cannot shard this network: {said}")]) from error


def _apart(model: nn.Module, parts: Sequence[nn.Module]) -> list[nn.Module]:
    """The parts of a network that share no parameter with another part or with what is outside of them."""
    everywhere = _uses(model)
    return [part for part in parts if _uses(part).items() <= everywhere.items()]


def _uses(model: nn.Module) -> Counter[int]:
    """How many modules have each parameter."""
    return Counter(id(one) for module in model.modules() for one in module._parameters.values() if one is not None)


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


def write_whole(tensor: Tensor, whole: Tensor) -> None:
    """Give a tensor, in place, the values of another one; of a DTensor each worker writes its rows, and all call this.

    Processors of different kinds can draw different last bits: where the workers differ, the first one's are taken.

    Args:
        tensor: sharded by rows over all workers, or any other one.
        whole: of its shape, on the CPU.
    """
    with torch.no_grad():
        if is_shard(tensor):
            whole = _as_of_first(whole.to(tensor.dtype), tensor)
            part_of(tensor).copy_(part_of(divided_like(whole, tensor)))
        else:
            tensor.copy_(whole)


def _as_of_first(whole: Tensor, tensor: DTensor) -> Tensor:
    """The first worker's bits of what each worker has; nothing of it is moved where all have the same."""
    from prune_search.tasks.workers import connected, digest_of_tensors

    dist, group, device = torch.distributed, tensor.device_mesh.get_group(), part_of(tensor).device
    digest = bytes.fromhex(digest_of_tensors([whole]))
    own = torch.tensor(list(digest), dtype=torch.int32, device=device)
    # The largest of each byte, and of its negative: equal only where all workers have the same.
    ends = torch.cat([own, -own])
    with connected():
        dist.all_reduce(ends, op=dist.ReduceOp.MAX, group=group)
        if bool((ends[: len(own)] == -ends[len(own) :]).all()):
            return whole
        sent = whole.to(device).contiguous()
        dist.broadcast(sent.reshape(-1).view(torch.uint8), dist.get_global_rank(group, 0), group=group)
    return sent


def on_cpu(tensor: Tensor) -> Tensor:
    """A tensor on the CPU; of a DTensor, this worker's part stays where all its workers have theirs."""
    return tensor if is_shard(tensor) else tensor.cpu()


def gathered(tensor: Tensor) -> Tensor:
    """All of a tensor; of a DTensor, put together from all workers, which all call this."""
    return tensor.full_tensor() if is_shard(tensor) else tensor
