"""A test of whether a method resumes after `kill -9`: its longest stage is killed and started again.

The stage is killed after three quarters of its passes. The trial uses only some of the examples and a few blocks of
iterations. The number of passes after the second start shows whether the method resumed.
"""

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.flows.stages import Task, run

AT = 0.75


@dataclass(frozen=True)
class Trial:
    """The numbers of passes over train of an uninterrupted run (`n_whole`) and of the second start (`n_again`)."""

    n_whole: int
    n_again: int

    @property
    def resumes(self) -> bool:
        return self.n_again <= (1 - AT / 2) * self.n_whole


def kill_and_restart(stages: Sequence[str], task: Task) -> Trial:
    """Run the stages once without interruption, and once with the last of them killed and started again."""
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
        raise AssertionError(f"{stage} finished before it was killed")
    return Trial(n_whole, run(tasks["killed"]).n_passes)
