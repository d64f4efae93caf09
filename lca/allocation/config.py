"""The options of an allocation and the checks on their values."""

import re

from lca.config import LARGEST_SEED, MANY, configuration, option
from lca.errors import Argument, UsageError
from lca.store.names import require_name
from lca.store.schema import KEEP, MANTISSA_BITS, PRECISIONS, RULES, SPLITS

PART_TOLERANCE = 0.02  # default for the adaptive rule


@configuration
class AllocateConfig:
    """Options of `lca.allocate` and `lca.check`."""

    split: str = option(
        default="train", choices=SPLITS, help="Split whose loss is allocated.", group="What to allocate"
    )
    name: str | None = option(
        default=None,
        help="Name to store the allocation under.",
        unset="the split",
        metavar="NAME",
        group="What to allocate",
    )
    tolerance: float | None = option(
        default=None,
        help="Largest residual allowed in an iteration, in units of the loss.",
        unset="0.001 nats as in the paper; for other units, 0.0004 times the first loss",
        metavar="X",
        group="Accuracy",
    )
    part_tolerance: float | None = option(
        default=None,
        help="Maximum estimated error of the parts in an iteration, measured as the difference from the next coarser "
        "rule relative to Σ|A|. Iterations above this limit are refined.",
        unset="no limit; 0.02 with the adaptive rule",
        metavar="FRACTION",
        group="Accuracy",
    )
    total_tolerance: float = option(
        default=1e-2,
        help="Largest cumulative residual allowed, as a fraction of the total loss change. "
        "The default is taken from the paper.",
        metavar="FRACTION",
        group="Accuracy",
    )
    max_intervals: int = option(
        default=64, metavar="N", help="Maximum number of subintervals per iteration (a power of two).", group="Accuracy"
    )
    rule: str = option(
        default="simpson",
        choices=RULES,
        help="Initial quadrature rule. Refinement uses Simpson's rule. Adaptive starts with the trapezoidal rule and "
        "switches to Simpson's rule where it predicts that the error of the parts exceeds the part tolerance. "
        "First-order is never refined.",
        group="Accuracy",
    )
    audit: float = option(
        default=0.01,
        limits=(0, 1),
        metavar="FRACTION",
        help="Fraction of iterations to integrate again on a finer grid, which measures the error of the LCA values. "
        "At least 20 iterations are audited, or fewer if the run is short. Zero turns the audit off.",
        group="Accuracy",
    )
    seed: int = option(
        default=0,
        limits=(0, LARGEST_SEED),
        help="Random seed for choosing the audited iterations and the subset of examples.",
        metavar="SEED",
        group="Accuracy",
    )
    iterations: str | None = option(
        default=None,
        metavar="A:B:STEP",
        help="Allocate only these iterations (a Python slice, e.g. 0:400:10).",
        group="What to allocate",
    )
    examples: int | None = option(
        default=None,
        limits=(1, MANY),
        metavar="N",
        help="Use a fixed, class-stratified subset of N examples.",
        unset="all",
        group="What to allocate",
    )
    by_class: bool = option(
        default=False,
        help="Also store the LCA of each tensor separately for each class that the problem defines.",
        group="What to allocate",
    )
    other_loss: bool = option(
        default=False,
        help="Allow a loss that differs from the one that the run was trained with.",
        group="What to allocate",
    )
    gradient_signs: bool = option(
        default=False, help="Store the sign of every gradient, one bit per parameter.", group="Storage"
    )
    keep: str = option(
        default="lca",
        choices=KEEP,
        help="Store the LCA of every parameter, or only the sums over tensors, which saves disk space.",
        group="Storage",
    )
    keep_bits: int = option(
        default=MANTISSA_BITS,
        limits=(1, MANTISSA_BITS),
        metavar="BITS",
        help="Mantissa bits kept per LCA value. The stored sums over tensors are unaffected.",
        group="Storage",
    )
    batch_size: int | None = option(
        default=None,
        limits=(1, MANY),
        metavar="N",
        help="Number of examples per batch when evaluating the split. It affects the loss if the model uses BatchNorm "
        "or another operation that mixes the examples of a batch.",
        unset="the fastest, or 5000 (as in the paper) if the loss depends on the batch size",
        group="Speed",
    )
    channels_last: bool | None = option(
        default=None, help="Use the channels-last memory format for images.", unset="the faster format", group="Speed"
    )
    precision: str = option(
        default="fp32",
        choices=PRECISIONS,
        help="Precision of matrix products and convolutions. The audit uses fp32, so it also measures the error due "
        "to lower precision.",
        group="Speed",
    )
    compile: bool = option(default=False, help="Compile the model with torch.compile.", group="Speed")
    device: str = option(
        default="auto",
        help="Device to compute on; auto selects the accelerator if there is one, otherwise the CPU.",
        metavar="DEVICE",
        group="Speed",
    )

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", self.split)
        require_name("name", str(self.name))
        for name in ("tolerance", "total_tolerance", "part_tolerance"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(name, expected="a positive number", found=str(value))
        if self.part_tolerance is not None and self.rule not in ("simpson", "adaptive"):
            raise UsageError(
                f"part_tolerance is not available for the rule {self.rule}",
                remedy=("Pass ", Argument("rule", "simpson"), " or ", Argument("rule", "adaptive"), "."),
            )
        if self.max_intervals < 2 or self.max_intervals & (self.max_intervals - 1) or self.max_intervals > 2**14:
            raise UsageError("max_intervals", expected="a power of two from 2 to 16384", found=str(self.max_intervals))
        if self.iterations is not None:
            _parse_slice(self.iterations)

    @property
    def part_limit(self) -> float | None:
        """The largest part estimate allowed in an iteration, or None if there is no limit."""
        return PART_TOLERANCE if self.part_tolerance is None and self.rule == "adaptive" else self.part_tolerance

    def range(self, T: int) -> range:
        """Return the iterations to allocate in a run of T iterations."""
        if self.iterations is None:
            return range(T)
        requested = _parse_slice(self.iterations)
        begin, end = requested.start or 0, T if requested.stop is None else requested.stop
        if end > T or begin >= end:
            expected = f"A:B:STEP with 0 ≤ A < B ≤ {T:,}, the number of iterations"
            raise UsageError("iterations", expected=expected, found=self.iterations)
        return range(begin, end, requested.step)


def _parse_slice(text: str) -> slice:
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(re.fullmatch(r"[0-9]{0,12}", part) for part in parts) or parts[2:] == ["0"]:
        expected = "a slice A:B or A:B:STEP without signs, such as 0:100, 400: or ::10"
        raise UsageError("iterations", expected=expected, found=repr(text))
    begin, end, step = ([int(part) if part else None for part in parts] + [None])[:3]
    return slice(begin, end, step or 1)
