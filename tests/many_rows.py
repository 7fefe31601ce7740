"""A comparison of very many rows, for what shows a page of them, and what is done there."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from told_search import Told

from prune_search.report.compare import compare_data
from prune_search.report.explorer import flat

# Only rows of 90 % sparsity and more; the table by its fourth column.
LOW = "const low = document.getElementById('low'); low.value = 90; low.dispatchEvent(new Event('input'))"
SORT = "document.querySelector('table.sortable thead th:nth-child(4)').click()"


def many_rows(storage: Path, count: int) -> dict[str, Any]:
    """The comparison of a search of two trials, whose rows are there many times with figures of their own."""
    told = Told.begin(storage)
    told.dense(0.98)
    told.trial("snip", 0.9, 0.94)
    told.trial("random", 0.5, 0.9)
    made = compare_data([told.records])
    draw = random.Random(0)
    rows, details = [], []
    for number in range(count):
        row = made["rows"][number % 2]
        metrics = {**row["metrics"], "sparsity": draw.uniform(0.5, 0.99), "val/accuracy": draw.uniform(0.5, 0.98)}
        rows.append({**row, "name": f"{number:04d}-{row['paradigm']}", "metrics": metrics})
        curve = [[step, metrics["val/accuracy"] * (1 - math.exp(-step / 9))] for step in range(60)]
        details.append({"recipe": flat(told.records.trials[row["id"]].recipe), "curve": curve})
    return {**made, "rows": rows, "details": details, "importance": []}
