"""Groups the runs of an experiment by seed: runs with the same seed share their initial weights and mini-batches."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lca.store.run import Run


def find_blocks(runs: Sequence[Run], conditions: NDArray[Any]) -> dict[int, list[int]]:
    """Group runs by seed if every seed occurs once under every condition, such as every value of an option.

    `conditions` contains a value for each run. Returns a dictionary from each seed, in ascending order, to the indices
    of its runs, in ascending order of their conditions. The dictionary is empty if the runs do not form such blocks, if
    there is only one seed, or if a seed is unknown because the run was recorded from a custom training loop.
    """
    seeds: list[Any] = [(run.attributes.get("train") or {}).get("seed") for run in runs]
    values = conditions.tolist()
    if None in seeds or len({*zip(seeds, values, strict=True)}) < len(runs):
        return {}
    blocks: dict[int, list[int]] = defaultdict(list)
    for i in sorted(range(len(runs)), key=lambda i: values[i]):
        blocks[seeds[i]].append(i)
    complete = all(len(block) == len({*values}) for block in blocks.values())
    return {seed: blocks[seed] for seed in sorted(blocks)} if complete and len(blocks) > 1 else {}
