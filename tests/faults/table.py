"""The whole table of faults and attacks, by one command; an hour on two cores.

    python tests/faults/table.py | tee tests/benchmarks/records/faults.log
    python tests/faults/table.py --rows 2 17 A1       these only
    python tests/faults/table.py --fast               without what is marked slow or long

Each row names the tests that show it. What they count is printed beside them: how many passed of how many, and what a
test itself has counted (`record_property("figure", …)`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """A fault or an attack.

    Attributes:
        what: happens.
        reached: what is shown, where all tests pass.
        tests: files, or ``FILE::FUNCTION``, below tests/.
    """

    what: str
    reached: str
    tests: tuple[str, ...]


ROWS: dict[str, Row] = {
    "1": Row(
        "driver killed",
        "resumed and equal to the unbroken search trial by trial; each trial one run, none RUNNING, no value twice",
        (
            "faults/test_simulated_kills.py",
            "faults/test_search_faults.py::test_a_killed_search_goes_on_as_if_it_had_not_been",
            "faults/test_killed_at_hooks.py",
        ),
    ),
    "2": Row(
        "worker node killed in mid-epoch",
        "the same weights bit for bit; a search of 60 trials without a node and without MLflow takes the same course",
        ("faults/test_lost_nodes.py",),
    ),
    "3": Row(
        "trial process killed, or hangs",
        "tried again, then FAILED in one line; a hang is found within two heartbeats; others unharmed",
        (
            "faults/test_search_faults.py::test_a_trial_that_dies_or_hangs_is_tried_again_and_harms_no_other",
            "integration/test_together.py::test_a_worker_that_is_lost_costs_an_attempt",
        ),
    ),
    "4": Row(
        "error that a retry cannot cure",
        "one attempt, FAILED with error.kind, the sampler is told, the search goes on",
        ("integration/test_search.py::test_what_a_retry_cannot_cure_fails_a_trial_and_no_other",),
    ),
    "5": Row(
        "MLflow away for 0, 20, 60 s and for ever",
        "800 of 800 values, none twice, no orphan; no call on another thread; for ever: exit 0, sync delivers",
        (
            "faults/test_tracking_faults.py::test_away_for_a_while_every_value_arrives_once",
            "faults/test_tracking_faults.py::test_away_for_ever_costs_the_search_no_time_and_sync_delivers_later",
            "faults/test_tracking_faults.py::test_a_run_whose_making_was_not_answered_is_not_made_again",
            "faults/test_tracking_faults.py::test_answers_lost_at_random_leave_nothing_twice",
            "faults/test_tracking_faults.py::test_a_database_that_is_away_is_found_at_once_and_keeps_no_other_search_waiting",
            "faults/test_tracking_in_full.py::test_a_server_that_was_killed_and_comes_back_gets_every_value_once",
            "faults/test_tracking_in_full.py::test_a_launch_without_any_mlflow_ends_with_0_and_sync_delivers_later",
        ),
    ),
    "6": Row(
        "MLflow slow, 429, 500",
        "nothing lost, nothing twice, the course unchanged",
        (
            "faults/test_tracking_faults.py::test_an_overloaded_or_broken_server_loses_nothing",
            "faults/test_tracking_faults.py::test_a_process_ends_at_once_though_its_mlflow_hangs",
            "faults/test_tracking_in_full.py::test_a_server_that_takes_5_seconds_for_a_call_loses_nothing",
            "faults/test_tracking_in_full.py::test_a_search_takes_the_same_course_whatever_mlflow_answers",
        ),
    ),
    "7": Row(
        "corrupt checkpoint",
        "200 of 200 mutations found, the newest valid state is used",
        (
            "faults/test_checkpoint_faults.py::test_two_hundred_mutations_are_found_and_the_state_before_is_used",
            "faults/test_checkpoint_faults.py::test_every_single_bit_of_the_manifest_counts",
            "faults/test_checkpoint_faults.py::test_where_every_state_is_damaged_none_is_used",
        ),
    ),
    "8": Row(
        "disk full at every write",
        "the state before stays valid, nothing partial becomes current",
        (
            "faults/test_checkpoint_faults.py::test_a_write_that_fails_anywhere_leaves_the_state_before_it",
            "faults/test_checkpoint_faults.py::test_a_tensor_file_that_cannot_be_written_leaves_the_old_one",
            "faults/test_checkpoint_faults.py::test_a_full_disk_leaves_the_state_before_it",
        ),
    ),
    "9": Row(
        "the same search launched twice at once",
        "the second exits with 2 and the holder's name; a stale lease is taken over",
        (
            "faults/test_search_faults.py::test_a_search_is_held_by_one_process_and_can_be_asked_to_end",
            "faults/test_search_faults.py::test_the_lease_of_a_process_that_is_gone_is_taken_over",
            "faults/test_search_faults.py::test_of_two_that_are_launched_at_once_one_runs",
        ),
    ),
    "10": Row(
        "space edited before resume",
        "refused with the difference; --fork reuses what is trained",
        ("faults/test_search_faults.py::test_an_edited_space_is_not_resumed_but_forked",),
    ),
    "11": Row(
        "eight need one stretch, its builder killed",
        "trained once, taken over, the same weights bit for bit",
        ("faults/test_shared_tree.py", "integration/test_register_of_claims.py"),
    ),
    "12": Row(
        "upgrade",
        "recipe, state and search of every format are read; a newer one is refused in one line",
        ("golden",),
    ),
    "13": Row(
        "determinism",
        "equal masks and metrics bit for bit: twice, under Ray, with one and four workers, after kills",
        (
            "faults/test_determinism.py",
            "integration/test_search.py::test_a_trial_under_ray_equals_a_run_bit_for_bit",
            "integration/test_search.py::test_a_reproducible_search_is_the_same_however_its_trials_are_timed",
            "integration/test_kill.py::test_two_fresh_processes_find_the_same_bits_as_this_one",
            "integration/test_kill.py::test_a_trial_killed_twice_in_every_stage_ends_as_one_that_was_not",
        ),
    ),
    "14": Row("1,000 fuzzed recipes and spaces", "valid, or refused line by line", ("faults/test_fuzz.py",)),
    "15": Row("absurd requests", "refused before anything is allocated", ("faults/test_absurd_requests.py",)),
    "16": Row(
        "SIGTERM with grace",
        "state stored, the exit code says so, resume goes on from that step",
        (
            "faults/test_search_faults.py::test_a_search_is_held_by_one_process_and_can_be_asked_to_end",
            "faults/test_search_faults.py::test_a_run_that_is_asked_to_end_goes_on_from_its_stored_step",
            "faults/test_search_faults.py::test_a_launch_that_is_asked_to_end_stores_its_states",
            "faults/test_busy_cluster.py",
        ),
    ),
    "17": Row(
        "device out of memory",
        "tried once more alone on a whole device, then FAILED with error.kind oom; others unharmed",
        ("faults/test_out_of_memory.py",),
    ),
    "17b": Row(
        "a node low on memory",
        "the search goes on from its records where Ray ended processes; where that leads nowhere, it says what to do",
        ("faults/test_low_memory.py",),
    ),
    "A1": Row("hostile YAML", "refused, and not carried out", ("security/test_hostile_yaml.py",)),
    "A2": Row(
        "hostile checkpoint",
        "refused, the state before it is used",
        (
            "security/test_hostile_checkpoints.py::test_a_hostile_tensor_file_is_refused_in_one_line",
            "security/test_hostile_checkpoints.py::test_what_is_no_file_of_tensors_is_refused_unread",
            "security/test_hostile_checkpoints.py::test_a_hostile_state_is_refused_and_the_one_before_it_is_used",
        ),
    ),
    "A3": Row(
        "names that climb out",
        "200 of 200 refused, nothing written",
        (
            "security/test_hostile_checkpoints.py::test_two_hundred_names_that_climb_out_are_refused_and_nothing_is_written",
            "unit/storage/test_object_paths.py::test_names_do_not_climb_out",
        ),
    ),
    "A4": Row(
        "MLflow exposed",
        "a foreign host or origin is refused, and so is who names nobody where names are asked for",
        (
            "security/test_mlflow_exposed.py",
            "faults/test_tracking_faults.py::test_a_browser_that_was_led_here_by_another_name_is_refused",
            "faults/test_tracking_faults.py::test_a_page_of_another_site_can_change_nothing",
        ),
    ),
    "A5": Row(
        "Ray exposed",
        "no, a wrong and the right token: 401, 403, 200; its file is the owner's alone",
        ("security/test_ray_exposed.py",),
    ),
    "A6": Row(
        "secrets in logs",
        "none found",
        (
            "security/test_secrets.py",
            "faults/test_tracking_faults.py::test_no_password_of_a_uri_is_ever_told",
        ),
    ),
    "A7": Row(
        "a foreign search folder",
        "its records are data: no pickle is opened and none of its code runs unless it is named again",
        ("security/test_foreign_search.py",),
    ),
}


@dataclass
class Counted:
    """What became of the tests of the table.

    Attributes:
        passed, failed, skipped: node ids.
        figures: by node id, what a test has counted.
    """

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    figures: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after each part of a test."""
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.skipped:
            self.skipped.add(report.nodeid)
        elif report.when == "call":
            self.passed.add(report.nodeid)
        for name, value in report.user_properties:
            if name == "figure":
                self.figures[report.nodeid] = str(value)

    def of(self, row: Row) -> tuple[list[str], str]:
        """The lines of a row, after its first, and its sum."""
        mine = [set(filter(lambda node: _belongs(node, row.tests), nodes)) for nodes in self._sets()]
        passed, failed, skipped = map(len, mine)
        sums = f"{passed}/{passed + failed}" + (f", {skipped} skipped" if skipped else "")
        lines = [f"     {self.figures[node]}" for node in sorted(mine[0]) if node in self.figures]
        return [*lines, *(f"     FAILED {node}" for node in sorted(mine[1]))], sums

    def _sets(self) -> tuple[set[str], set[str], set[str]]:
        return self.passed - self.failed, self.failed, self.skipped - self.failed


def _belongs(node: str, tests: Iterable[str]) -> bool:
    name = node.partition("[")[0]
    return any(name == f"tests/{test}" or name.startswith((f"tests/{test}::", f"tests/{test}/")) for test in tests)


def one(name: str, fast: bool) -> int:
    """Run the tests of a row, and print it; pytest's exit code."""
    row, counted = ROWS[name], Counted()
    words = ["--rootdir", str(ROOT), "-q", "--no-header", "--no-summary", "--tb=no", "-p", "no:cacheprovider"]
    tests = [str(ROOT / "tests" / test) for test in row.tests]
    # What pytest writes on its way is not the table.
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        code = pytest.main([*words, *tests, "-m", "not slow and not long" if fast else ""], plugins=[counted])
    finally:
        sys.stdout = out
    lines, sums = counted.of(row)
    print(f"{name:>3}  {row.what}: {sums}", *[f"     {row.reached}", *lines], sep="\n", flush=True)
    return int(code)


def main() -> int:
    """Run the tests of the rows, and print the table; 1 where one has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--fast", action="store_true", help="without what is marked slow or long")
    options = parser.parse_args()
    if len(options.rows) == 1:
        return int(one(options.rows[0], options.fast) != 0)
    # Each row has a process and a Ray of its own: what a fault of one leaves behind is no other row's.
    begun, failed = time.monotonic(), []
    for name in options.rows:
        words = [sys.executable, __file__, "--rows", name, *(["--fast"] if options.fast else [])]
        if subprocess.run(words, check=False).returncode != 0:
            failed.append(name)
    minutes = (time.monotonic() - begun) / 60
    print(
        f"{len(options.rows)} rows in {minutes:.1f} min; " + (f"failed: {', '.join(failed)}" if failed else "all hold")
    )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
