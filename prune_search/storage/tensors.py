"""Reads and writes tensors as safetensors, the only format for weights and masks. It cannot execute anything."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.files import one_line, open_regular, put_file
from prune_search.storage.manifests import no_constant, unique

MAX_HEADER_BYTES = 10_000_000
_MAX_DIMENSIONS = 64
_LONGEST_DIMENSION = 2**40
_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"
_ITEM_BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1},
}
_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "BOOL": torch.bool},
}
_TYPES = {dtype: name for name, dtype in _DTYPES.items()}
# Whatever reading foreign bytes can end in: the parser's own error, and what torch raises for an absurd shape.
_UNREADABLE = (SafetensorError, LookupError, ValueError, TypeError, RuntimeError, AssertionError, OverflowError)


def encode(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file: equal tensors and metadata give equal bytes.

    Args:
        tensors: dense tensors of any shape [...], device and layout; each view of shared memory is written in full.
        metadata: texts for the header.

    Raises:
        ValueError: a tensor has the name that the format keeps for the metadata.
    """
    if _METADATA in tensors:
        raise ValueError(f"a tensor cannot be named {_METADATA}")
    copies = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    data = safetensors.torch.save(copies)
    if not metadata:
        return data
    # The library writes metadata in an order that changes from process to process; the header is put together here.
    (length,) = _LENGTH.unpack_from(data)
    begin = _LENGTH.size + length
    header = {_METADATA: dict(sorted(metadata.items())), **json.loads(data[_LENGTH.size : begin])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return b"".join((_LENGTH.pack(len(text)), text, memoryview(data)[begin:]))


def encoded_parts(tensors: Mapping[str, Tensor]) -> list[bytes | memoryview]:
    """The bytes of a safetensors file in parts, of which those of tensors on the CPU are their own memory.

    Joined, equal tensors give equal bytes.

    Args:
        tensors: dense tensors of any shape [...], device and layout.

    Raises:
        ValueError: a tensor has the name that the format keeps for the metadata, or a type that it does not know.
    """
    names, begin = encoded_header({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()})
    return [*begin, *(data for name in names for data in encoded_data(tensors[name]))]


def encoded_header(described: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> tuple[list[str], list[bytes]]:
    """How a safetensors file begins, and the order in which the tensors' data follow.

    Args:
        described: by name, the type and shape of dense tensors.

    Raises:
        ValueError: as `encoded_parts`.
    """
    if _METADATA in described:
        raise ValueError(f"a tensor cannot be named {_METADATA}")
    if unknown := next((dtype for dtype, _ in described.values() if dtype not in _TYPES), None):
        raise ValueError(f"a safetensors file cannot hold {unknown}")
    header: dict[str, Any] = {}
    end = 0
    # Wide types first, as the format asks: each tensor is then aligned to its own type.
    names = sorted(described, key=lambda name: (-described[name][0].itemsize, name))
    for name in names:
        dtype, shape = described[name]
        span = [end, end := end + math.prod(shape) * dtype.itemsize]
        header[name] = {"dtype": _TYPES[dtype], "shape": list(shape), "data_offsets": span}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return names, [_LENGTH.pack(len(text)), text]


def encoded_data(tensor: Tensor) -> list[memoryview]:
    """The data of a dense tensor [...] as they follow the header, its own memory where it is on the CPU; or nothing."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).resolve_conj().resolve_neg()
    return [flat.view(torch.uint8).numpy().data] if flat.numel() else []


def decode_mapped(buffer: mmap) -> dict[str, Tensor]:
    """The tensors in a file that is mapped into memory, which stay there: no byte is copied before it is written to.

    Args:
        buffer: a private mapping (`mmap.ACCESS_COPY`) of a whole safetensors file.

    Returns:
        Name to tensor, sorted by name, on the CPU.

    Raises:
        ValueError: what is wrong with the bytes, in one line.
    """
    check_layout(buffer[: _LENGTH.size], buffer[_LENGTH.size : _LENGTH.size + MAX_HEADER_BYTES], len(buffer))
    (length,) = _LENGTH.unpack(buffer[: _LENGTH.size])
    first = _LENGTH.size + length
    found: dict[str, Tensor] = {}
    try:
        entries = json.loads(buffer[_LENGTH.size : first].decode("utf-8"))
        entries.pop(_METADATA, None)
        for name, entry in sorted(entries.items()):
            dtype, shape, begin = _DTYPES[entry["dtype"]], entry["shape"], first + entry["data_offsets"][0]
            count = math.prod(shape)
            if begin % dtype.itemsize:
                raise ValueError(f"{shown(name)} is not aligned")
            found[name] = (
                torch.frombuffer(buffer, dtype=dtype, count=count, offset=begin).reshape(shape)
                if count
                else torch.empty(shape, dtype=dtype)
            )
    except _UNREADABLE as error:
        raise ValueError(f"is not a valid safetensors file: {one_line(error)}") from error
    for name, tensor in found.items():
        if tensor.dtype == torch.bool and _has_other_bytes(tensor):
            raise ValueError(f"is not a valid safetensors file: {shown(name)} contains bytes that are not booleans")
    return found


def decode(data: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file.

    Returns:
        Name to tensor, sorted by name, each in fresh memory of torch's own on the CPU.

    Raises:
        ValueError: what is wrong with the bytes, in one line.
    """
    check_layout(data[: _LENGTH.size], data[_LENGTH.size : _LENGTH.size + MAX_HEADER_BYTES], len(data))
    try:
        found = safetensors.torch.load(data)
        odd = [name for name, tensor in found.items() if tensor.dtype == torch.bool and _has_other_bytes(tensor)]
        tensors = {name: found[name].clone() for name in sorted(found)}
    except MemoryError as error:
        raise ValueError("does not fit into memory") from error
    except _UNREADABLE as error:
        raise ValueError(f"is not a valid safetensors file: {one_line(error)}") from error
    if odd:  # any other byte is neither true nor false, and could scale what it is multiplied with
        raise ValueError(f"is not a valid safetensors file: {shown(odd[0])} contains bytes that are not booleans")
    return tensors


def _has_other_bytes(mask: Tensor) -> bool:
    return bool(mask.view(torch.uint8).gt(1).any())


def check_layout(length: bytes, header: bytes, size: int) -> None:
    """Check what a safetensors header claims before anything is read or allocated by it.

    Args:
        length: the first eight bytes of the file.
        header: what follows them, at least as long as the header is.
        size: bytes of the whole file.

    Raises:
        ValueError: the header is too long or broken, or its tensors do not fill the file exactly, one after another.
    """
    if len(length) < _LENGTH.size:
        raise ValueError("is not a valid safetensors file: it is too short")
    (claimed,) = _LENGTH.unpack(length)
    if claimed > MAX_HEADER_BYTES or claimed > size - _LENGTH.size:
        raise ValueError(f"is not a valid safetensors file: a header of {claimed} bytes in a file of {size}")
    try:
        entries = json.loads(header[:claimed].decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
        entries.pop(_METADATA, None)
        spans = sorted(_span(name, entry) for name, entry in entries.items())
    except ValueError as error:
        raise ValueError(f"is not a valid safetensors file: {one_line(error)}") from error
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("is not a valid safetensors file: its header is broken") from error
    end = 0
    for begin, after in spans:
        if begin != end:
            raise ValueError("is not a valid safetensors file: its tensors overlap or leave a gap")
        end = after
    if _LENGTH.size + claimed + end != size:
        raise ValueError(
            f"is not a valid safetensors file: it claims {_LENGTH.size + claimed + end} bytes and has {size}"
        )


def _span(name: str, entry: Mapping[str, Any]) -> tuple[int, int]:
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    if not whole or len(shape) > _MAX_DIMENSIONS or any(number > _LONGEST_DIMENSION for number in shape):
        raise ValueError(f"{shown(name)} has an impossible shape")
    if entry["dtype"] not in _ITEM_BYTES:
        raise ValueError(f"{shown(name)} has the unknown type {shown(entry['dtype'])}")
    if end - begin != math.prod(shape) * _ITEM_BYTES[entry["dtype"]]:
        raise ValueError(f"{shown(name)} has a shape that does not fit its bytes")
    return begin, end


def read_tensors_bytes(file: BinaryIO) -> bytes:
    """The bytes of an open safetensors file, read once its header is known to fit the file's size.

    Raises:
        ValueError: the layout is wrong, or the file is too large for the memory.
        OSError: it cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = file.read(_LENGTH.size)
    claimed = _LENGTH.unpack(length)[0] if len(length) == _LENGTH.size else 0
    check_layout(length, file.read(min(claimed, MAX_HEADER_BYTES)), size)
    file.seek(0)
    try:
        return file.read(size)
    except MemoryError as error:
        raise ValueError("does not fit into memory") from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors of any shape [...] to a safetensors file atomically, replacing an existing one.

    Raises:
        StorageError: it could not be written.
        ValueError: as `encode`.
    """
    put_file(path, encode(tensors, metadata))


def map_tensors(path: Path) -> dict[str, Tensor]:
    """As `load_tensors`, but the file is mapped: of each tensor only what is looked at comes into memory.

    A file that cannot be mapped, or whose tensors do not lie at multiples of their sizes, is read whole.
    """
    try:
        with open_regular(path) as file:
            return decode_mapped(mmap(file.fileno(), 0, access=ACCESS_COPY))
    except (OSError, ValueError):
        return load_tensors(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file of a user's.

    Args:
        path: a regular file; a link is not followed.

    Returns:
        As `decode`.

    Raises:
        UserError: one line that names the file: it is not there, no regular file, broken, or something else.
    """
    try:
        with open_regular(path) as file:
            return decode(read_tensors_bytes(file))
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {one_line(error)}" if isinstance(error, OSError) else one_line(error)
        name = str(path)
        raise UserError([Problem("", reason, name if name.isprintable() else shown(name))]) from error
