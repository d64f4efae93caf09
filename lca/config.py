"""How to allocate: the options, and what they may be."""

from dataclasses import dataclass

from lca.errors import UsageError
from lca.integrate import RULES
from lca.precision import PRECISIONS
from lca.replay import MANTISSA_BITS

KEEP = ("lca", "layers")


@dataclass(frozen=True)
class AllocateConfig:
    """How to allocate."""

    split: str = "train"  # whose loss
    name: str | None = None  # of the allocation in the store; the split's if None
    tolerance: float = 1e-3  # of the residual of an iteration, in the loss's unit; the paper's
    total_tolerance: float = 1e-2  # of the cumulative residual, as a part of |L_T − L_0|; the paper's
    max_intervals: int = 64  # where halving the step stops
    rule: str = "simpson"  # or "trapezoid", refined by Simpson, or "first-order", the cheapest and not refined
    audit: float = 0.01  # part of the iterations, at least five, on which the error of the parts is measured; 0: none
    seed: int = 0  # of the draws of the audited iterations and of the examples
    iterations: str | None = None  # only those of the slice "A:B:STEP"
    examples: int | None = None  # only so many of the split, with its classes in proportion
    by_class: bool = False  # class_lca, from the problem's groups
    gradient_signs: bool = False  # gradient_sign, a bit for each parameter and iterate
    keep: str = "lca"  # or "layers": all but the LCA of each parameter, where K × T is out of reach
    keep_bits: int = MANTISSA_BITS  # of mantissa in the stored LCA of each parameter; sums are exact all the same
    # Examples in a pass at once. None: the fastest, found by a probe; with BatchNorm, where it is a part of what the
    # loss is, the paper's 5,000.
    batch_size: int | None = None
    channels_last: bool | None = None  # images with their channels last in memory; None: if that is faster
    precision: str = "fp32"  # or "tf32", "bf16", see lca.precision
    compile: bool = False  # run the model through torch.compile
    device: str = "auto"  # CUDA where there is one

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", self.split)
        for name in ("tolerance", "total_tolerance"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}; a positive number was wanted.")
        if self.max_intervals < 2 or self.max_intervals & (self.max_intervals - 1) or self.max_intervals > 2**14:
            raise UsageError(f"max_intervals is {self.max_intervals}; a power of two from 2 to 16384 was wanted.")
        for name, known in (("rule", RULES), ("precision", PRECISIONS), ("keep", KEEP)):
            if getattr(self, name) not in known:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}; the known ones are {', '.join(known)}.")
        if not 0 <= self.audit <= 1:
            raise UsageError(f"audit is {self.audit}; a part of the iterations from 0 to 1 was wanted.")
        for name in ("batch_size", "examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; at least 1 was wanted.")
        if not 1 <= self.keep_bits <= MANTISSA_BITS:
            raise UsageError(f"keep_bits is {self.keep_bits}; 1 to {MANTISSA_BITS} was wanted.")
        if self.iterations is not None:
            _parse(self.iterations)

    def range(self, T: int) -> range:
        """The iterations asked for, of a run of T."""
        if self.iterations is None:
            return range(T)
        begin, end, step = _parse(self.iterations)
        begin, end = begin or 0, T if end is None else end
        if end > T or begin >= end:
            raise UsageError(
                f"iterations {self.iterations} are out of range: the run has {T:,} of them, 0 to {T - 1:,}. "
                f"Give A:B:STEP with 0 ≤ A < B ≤ {T:,}."
            )
        return range(begin, end, step)


def _parse(text: str) -> tuple[int | None, int | None, int]:
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(part == "" or part.isdecimal() for part in parts) or parts[2:] == ["0"]:
        raise UsageError(
            f"iterations is {text!r}; a slice A:B or A:B:STEP was wanted, such as 0:100, 400: or ::10, without signs."
        )
    begin, end, step = ([int(part) if part else None for part in parts] + [None])[:3]
    return begin, end, step or 1
