"""Problems by name: built in, added by a plug-in, or defined by the user's code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lca.problem import user_code
from lca.problem.problem import Problem
from lca.problem.zoo import presets


def load(
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    seed: int = 0,
) -> Problem:
    """Load a problem, with its model initialised from the seed; the caller's random state is left as it was.

    Args:
        name: A built-in name, one added by a plug-in, or where the function is that returns the problem:
            "package.module:factory" or "path/file.py:factory".
        options: The options that differ from the problem's defaults, such as {"layers": 4}.
        data_dir: The folder of the datasets; by default LCA_DATA, or else ~/.cache/lca.
        download: Download the dataset into this folder if it is missing.
        seed: Random seed of the weights.

    Returns:
        The problem.

    Raises:
        UsageError: If there is no such problem, or it has no such option.
        LCAError: If the dataset is missing or damaged, or the user's code raises.

    Example:
        >>> problem = lca.load("digits-fc", options={"width": 2.0})
    """
    if name not in presets.PRESETS and user_code.is_factory(name):
        return user_code.make_problem(name, options or {}, seed)
    preset = presets.find(name)
    resolved = preset.resolve(options or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = preset.network(**resolved)
    data = preset.data.load(data_dir, download)
    return Problem(
        model,
        preset.data.losses,
        data.train,
        data.val,
        data.test,
        weigh=preset.data.weigh,
        groups=preset.data.groups,
        group_names=preset.data.group_names,
        scale=data.scale,
        correct=preset.data.correct,
        name=name,
        options=resolved,
    )
