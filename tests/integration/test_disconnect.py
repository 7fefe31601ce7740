"""Ray is shut down while other threads work."""

import subprocess
import sys

import pytest

# A thread collects garbage for half a second, and Ray ends in the middle of it; Tune leaves references in cycles.
PROGRAM = """
import gc, threading, time
import ray
from prune_search.search.ray.connection import disconnect

gc.disable()
ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=1)
for _ in range(30_000):
    ring = [ray.ObjectRef.from_random()]
    ring.append(ring)
del ring

def collect():
    while ray.is_initialized():
        time.sleep(0.0005)
    gc.collect()

thread = threading.Thread(target=collect)
thread.start()
disconnect()
thread.join()
print("over", gc.isenabled())
"""


@pytest.mark.services
@pytest.mark.xdist_group("head")
def test_a_thread_that_collects_garbage_meanwhile_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "over False\n"), done.stderr
