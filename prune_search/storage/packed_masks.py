"""Masks as bits: how a stored state keeps tensors of booleans in one bit per element."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy
import torch
from torch import Tensor

# A mask ``hook/mask/mask/fc.weight`` [2, 3] is the bytes ``bits/2x3/hook/mask/mask/fc.weight`` in a state of format 2.
PREFIX = "bits/"


def has_masks(tensors: Mapping[str, Tensor]) -> bool:
    """Whether there is a tensor of booleans."""
    return any(tensor.dtype == torch.bool for tensor in tensors.values())


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of any shape [...] with those of booleans as bits: uint8 [⌈places / 8⌉], in row-major order.

    Raises:
        ValueError: a tensor has a name that packed masks have.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(PREFIX):
            raise ValueError(f"a tensor of a state cannot be named {name}")
        if tensor.dtype != torch.bool:
            found[name] = tensor
            continue
        bits = [*packed_parts([tensor])]
        found[packed_name(name, tensor.shape)] = torch.cat(bits) if bits else torch.zeros(0, dtype=torch.uint8)
    return found


def packed_name(name: str, shape: Sequence[int]) -> str:
    """What the bits of a mask are called in a state.

    Example:
        >>> packed_name("hook/mask/mask/fc.weight", (2, 3))
        'bits/2x3/hook/mask/mask/fc.weight'
    """
    return f"{PREFIX}{'x'.join(map(str, shape))}/{name}"


def packed_parts(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """The bits of a mask that arrives in parts, uint8 [n] each, together [⌈places / 8⌉].

    Args:
        parts: bool [...], in row-major order.
    """
    rest = numpy.zeros(0, dtype=bool)
    for part in parts:
        places = part.detach().cpu().contiguous().reshape(-1).numpy()
        places = numpy.concatenate([rest, places]) if rest.size else places
        # Bytes are filled up before the next one begins, wherever a part ends.
        whole = places.size // 8 * 8
        if whole:
            yield torch.from_numpy(numpy.packbits(places[:whole], bitorder="little"))
        rest = places[whole:]
    if rest.size:
        yield torch.from_numpy(numpy.packbits(rest, bitorder="little"))


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `packed`, sorted by name.

    Raises:
        ValueError: the bits of a mask are not those of its shape.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(PREFIX):
            found[name] = tensor
            continue
        written, _, own = name.removeprefix(PREFIX).partition("/")
        sizes = written.split("x") if written else []
        if not all(size.isascii() and size.isdigit() and len(size) < 13 for size in sizes) or own in tensors:
            raise ValueError("a mask has an impossible shape or is listed twice")
        shape = [int(size) for size in sizes]
        count = math.prod(shape)
        if tensor.dtype != torch.uint8 or tuple(tensor.shape) != (-(-count // 8),):
            raise ValueError("a mask has a shape that does not fit its bits")
        bits = numpy.unpackbits(tensor.numpy(), count=count, bitorder="little")
        found[own] = torch.from_numpy(bits).to(torch.bool).reshape(shape)
    return dict(sorted(found.items()))
