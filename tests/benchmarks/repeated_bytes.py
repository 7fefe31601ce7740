"""How many bytes of a storage's states are stored more than once: what hard links or references could save.

    python tests/benchmarks/repeated_bytes.py STORAGE …

Tensors are compared by their bytes, files by theirs. A tensor of fewer than 64 bytes counts as new.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from safetensors.numpy import load_file

SMALL = 64


def repeated(storage: Path) -> tuple[int, int, int, int]:
    """Files, those whose bytes another one has, bytes of tensors, and those of tensors that another one equals."""
    files: set[bytes] = set()
    tensors: set[bytes] = set()
    count = same = total = again = 0
    for path in sorted(storage.rglob("state.safetensors")):
        digest = hashlib.sha256(path.read_bytes()).digest()
        count, same = count + 1, same + (digest in files)
        files.add(digest)
        for values in load_file(path).values():
            data = values.tobytes()
            found = hashlib.sha256(data).digest()
            total += len(data)
            again += len(data) * (found in tensors and len(data) >= SMALL)
            tensors.add(found)
    return count, same, total, again


def main() -> None:
    """Print a line for each storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storage", nargs="+", type=Path)
    for storage in parser.parse_args().storage:
        count, same, total, again = repeated(storage)
        if not count:
            parser.error(f"{storage} holds no states")
        share = again / max(1, total)
        print(f"{count} states, {same} files twice; {total / 2**20:.1f} MiB of tensors, {share:.2%} of them twice")


if __name__ == "__main__":
    main()
