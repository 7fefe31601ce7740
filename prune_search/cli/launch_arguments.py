"""Options that say how a search is run: those of ``launch``, some of which ``resume`` shares."""

from __future__ import annotations

from typing import Annotated

import typer

from prune_search.cli.plan import ASKED

Name = Annotated[str | None, typer.Option("--name", help="Name of the search. Default: the name of the space file.")]
Trials = Annotated[int | None, typer.Option("--trials", help="Number of trials.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", help="Number of trials that run at the same time.")]
CpusPerTrial = Annotated[float | None, typer.Option("--cpus-per-trial", help="CPUs per trial; fractions are allowed.")]
GpusPerTrial = Annotated[float | None, typer.Option("--gpus-per-trial", help="GPUs per trial; fractions are allowed.")]
WorkersPerTrial = Annotated[
    int | None, typer.Option("--workers-per-trial", help="Workers per trial (data-parallel training).")
]
Sharded = Annotated[
    bool | None,
    typer.Option("--sharded", help="Each worker of a trial holds a shard of its network (torch's fully_shard)."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Random seed of the sampler.")]
TimeBudget = Annotated[
    float | None, typer.Option("--time-budget", help="Stop proposing trials after this many seconds.")
]
MaxFailures = Annotated[
    int | None, typer.Option("--max-failures", help="Number of retries after a trial's process dies.")
]
Address = Annotated[
    str | None, typer.Option("--address", help="Address of a Ray cluster. Default: start Ray on this machine.")
]
TrackingUri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow tracking URI. Default: an SQLite database in the storage.")
]
Heartbeat = Annotated[
    float,
    typer.Option("--heartbeat", min=1.0, help="Restart a worker after this many seconds without a training step."),
]
Share = Annotated[
    bool,
    typer.Option(
        "--share/--no-share",
        help="Share training that several trials have in common. Use --no-share only for comparisons.",
    ),
]
Simulate = Annotated[
    bool, typer.Option("--simulate", help="Train nothing; a response surface supplies the results of the trials.")
]
Surface = Annotated[
    str | None,
    typer.Option(
        "--surface",
        help="Simulate with this surface (`prune-search methods` lists them) or with the networks in FILE.csv.",
    ),
]
SystemMetrics = Annotated[
    bool, typer.Option("--system-metrics", help="Also log the memory of trials and of their GPUs to MLflow.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help=ASKED)]
