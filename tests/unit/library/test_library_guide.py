"""The examples of guide/library.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import prune_search


def test_the_examples_of_the_guide_run(capsys: Any) -> None:
    text = (Path(prune_search.__file__).parent / "guide" / "library.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    assert capsys.readouterr().out.startswith("0.9")
    assert names["dynamics"].mask.receipt().asked == 0.9
    assert names["rigl"].mask.receipt().units_kept == names["rigl"].mask.receipt().units_asked
    assert names["penalty"].finished(names["i"])
    assert not bool(names["mask"]["0.weight"].all())
