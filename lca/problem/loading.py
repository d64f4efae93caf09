"""Loading of problems by name: built-in problems, problems added by plug-ins, and problems in the user's code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lca.problem import user_code
from lca.problem.problem import NATS, Problem
from lca.problem.zoo import presets
from lca.store.paths import is_url


def load(
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    seed: int = 0,
) -> Problem:
    """Load a problem by name.

    The seed determines the initial weights of the model. The caller's random state does not change.

    Args:
        name: Name of a built-in problem or of one that a plug-in adds, or location of a function that returns a
            problem: ``"package.module:factory"`` or ``"path/file.py:factory"``.
        options: Problem options that differ from their defaults, such as ``{"layers": 4}``.
        data_dir: Folder of the datasets. The default is the environment variable ``LCA_DATA``, or ``~/.cache/lca`` if
            it is not set.
        download: Whether to download the dataset into ``data_dir`` if it is missing.
        seed: Random seed of the weights.

    Returns:
        The problem.

    Raises:
        UsageError: If there is no such problem or option.
        LCAError: If the dataset is missing or damaged, or if the user's code raises an exception.

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
        unit=NATS,
        name=name,
        options=resolved,
    )


def is_problem(name: str) -> bool:
    """Return whether `name` is a problem's name or the location of a function that returns one. A URL is neither."""
    return name in presets.PRESETS or (user_code.is_factory(name) and not is_url(name))
