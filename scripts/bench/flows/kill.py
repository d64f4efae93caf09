"""Whether a method goes on after `kill -9`: its long stage is killed at three quarters of its passes, and run again.

On a part of the examples and on a few blocks of iterations; what counts is how many passes the second start does.
"""

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.flows.stages import Task, run

AT = 0.75


@dataclass(frozen=True)
class Trial:
    """Full-set passes over train: of a run that nobody kills, and of the second start."""

    n_whole: int
    n_again: int

    @property
    def went_on(self) -> bool:
        return self.n_again <= (1 - AT / 2) * self.n_whole


def kill_and_restart(stages: Sequence[str], task: Task) -> Trial:
    """stages: in order; the last of them is the long one."""
    *before, stage = stages
    tasks = {name: replace(task, folder=f"{task.folder}-{stage}-{name}", stage=stage) for name in ("whole", "killed")}
    for each in tasks.values():
        for name in before:
            run(replace(each, stage=name))
    n_whole = run(tasks["whole"]).n_passes
    try:
        run(replace(tasks["killed"], kill_at=round(AT * n_whole)))
    except subprocess.CalledProcessError as error:
        if error.returncode != -signal.SIGKILL:
            raise
    else:
        raise AssertionError(f"{stage} ended by itself")
    return Trial(n_whole, run(tasks["killed"]).n_passes)
