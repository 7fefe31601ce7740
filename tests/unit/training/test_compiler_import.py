"""Optimizers without torch's compiler do what they do with it, bit for bit, and use it once it is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# A process of its own: in this one torch's compiler may have been imported, and its methods stay as they are.
CODE = """
import hashlib, json, sys, torch

if sys.argv[1] == "postponed":
    from prune_search.training.compiler_import import postpone_compiler_import
    for _ in range(2):
        postpone_compiler_import()

def trained(make):
    torch.manual_seed(0)
    network = torch.nn.Linear(5, 3)
    optimizer = make([{"params": [network.weight]}, {"params": [network.bias], "weight_decay": 0.1}])
    for number in range(4):
        optimizer.zero_grad()
        network(torch.ones(2, 5)).square().sum().backward()
        optimizer.step()
        assert network.weight.requires_grad
        if number == 1:
            state = optimizer.state_dict()
            optimizer = make([{"params": [network.weight]}, {"params": [network.bias]}])
            optimizer.load_state_dict(state)
    return hashlib.sha256(network.weight.detach().numpy().tobytes()).hexdigest()

makers = [
    lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    lambda groups: torch.optim.Adam(groups, lr=0.1),
    lambda groups: torch.optim.AdamW(groups, lr=0.1),
    lambda groups: torch.optim.RMSprop(groups, lr=0.1),
]
first = [trained(make) for make in makers]
imported = "torch._dynamo" in sys.modules
import torch._dynamo
marks = []
torch._dynamo.graph_break = lambda *args, **kwargs: marks.append(args)
then = [trained(make) for make in makers]
print(json.dumps({"first": first, "imported": imported, "then": then, "marks": len(marks)}))
"""


@pytest.mark.slow
def test_the_bits_are_the_same_and_the_compiler_is_used_once_it_is_there() -> None:
    found = {}
    for how in ("postponed", "as torch has it"):
        command = [sys.executable, "-c", CODE, how]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[how] = json.loads(done.stdout)
    ours, torchs = found["postponed"], found["as torch has it"]
    assert not ours["imported"]
    assert torchs["imported"]
    assert ours["first"] == ours["then"] == torchs["first"]
    # Four optimizers of four steps, each marked before and after.
    assert ours["marks"] == torchs["marks"] == 32
