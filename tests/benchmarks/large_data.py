"""The memory of one run on a large array in a file: 391 MB of bytes, mapped, of 32 × 32 pictures in colour.

    python tests/benchmarks/large_data.py

Prints the most memory that `prune-search run` had (resident, the mapped file's pages among it), and what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

EXAMPLES, SHAPE = 127_280, (3, 32, 32)
DATA = """
import numpy

def data():
    images = numpy.memmap({images!r}, dtype="uint8", mode="r", shape=({count}, 3, 32, 32))
    labels = numpy.arange({count}) % 10
    return {{"train": (images[2000:], labels[2000:]), "test": (images[:2000], labels[:2000])}}
"""
MODEL = """
from torch import nn

def net(classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(1800, classes))
"""
RUN = [
    *("run", "PRESET", "--data", "large_data:data", "--model", "large_model:net", "--json", "--device", "cpu"),
    *(
        "--set",
        "train.steps=20it",
        "--set",
        "train.batch=128",
        "--set",
        "retrain.steps=20it",
        "--set",
        "mask.sparsity=0.8",
    ),
]


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="fine-tune")
    parser.add_argument("--command", nargs="*", default=[sys.executable, "-m", "prune_search"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = numpy.memmap(folder / "images", dtype="uint8", mode="w+", shape=(EXAMPLES, *SHAPE))
        draw = numpy.random.default_rng(0)
        for begin in range(0, EXAMPLES, 10_000):
            part = images[begin : begin + 10_000]
            part[:] = draw.integers(0, 256, part.shape, dtype="uint8")
        images.flush()
        del images
        (folder / "large_data.py").write_text(DATA.format(images=str(folder / "images"), count=EXAMPLES))
        (folder / "large_model.py").write_text(MODEL)
        options = [given.preset if word == "PRESET" else word for word in RUN]
        begun = time.perf_counter()
        with open(folder / "out", "wb") as out:
            process = subprocess.Popen(
                [*given.command, *options, "--storage", str(folder / "s")], cwd=folder, stdout=out
            )
            _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        if status:
            raise SystemExit(f"the run failed: {status}")
        result = json.loads((folder / "out").read_text())
        print(f"{EXAMPLES * 3072 / 1e6:.0f} MB of bytes: at most {used.ru_maxrss / 1e6:.2f} GB in {seconds:.0f} s")
        print(f"  key {result['key'][:16]}, mask {result['mask_sha256'][:16]}, weights {result['weights_sha256'][:16]}")


if __name__ == "__main__":
    main()
