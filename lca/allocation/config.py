"""How to allocate: the options, and what they may be."""

from lca.config import configuration, option
from lca.errors import UsageError
from lca.store.schema import KEEP, MANTISSA_BITS, PRECISIONS, RULES, SPLITS


@configuration
class AllocateConfig:
    """How to allocate."""

    split: str = option(default="train", choices=SPLITS, help="Split whose loss is allocated.")
    name: str | None = option(default=None, help="Name to store the allocation under.", unset="the split")
    tolerance: float = option(
        default=1e-3, help="Largest residual allowed in an iteration, in units of the loss; the default is the paper's."
    )
    total_tolerance: float = option(
        default=1e-2,
        help="Largest cumulative residual allowed, as a fraction of |L_T − L_0|; the default is the paper's.",
    )
    max_intervals: int = option(default=64, metavar="N", help="Maximum number of subintervals per iteration.")
    rule: str = option(
        default="simpson",
        choices=RULES,
        help="Quadrature rule to begin with; simpson and trapezoid are refined with Simpson, first-order is not.",
    )
    audit: float = option(
        default=0.01,
        metavar="FRACTION",
        help="Fraction of iterations, at least five, integrated again, more finely, to measure the error of the parts; "
        "0 for none.",
    )
    seed: int = option(default=0, help="Random seed for choosing the audited iterations and the subset of examples.")
    iterations: str | None = option(
        default=None, metavar="A:B:STEP", help="Allocate only these iterations (a Python slice, e.g. 0:400:10)."
    )
    examples: int | None = option(
        default=None, metavar="N", help="Use a fixed, class-stratified subset of N examples.", unset="all"
    )
    by_class: bool = option(default=False, help="Also store the LCA of each class, by the problem's groups.")
    gradient_signs: bool = option(default=False, help="Store the sign of every gradient, one bit per parameter.")
    keep: str = option(
        default="lca",
        choices=KEEP,
        help="What to store: the LCA of every parameter, or only its sums over tensors, if K × T is too large.",
    )
    keep_bits: int = option(
        default=MANTISSA_BITS, metavar="BITS", help="Mantissa bits kept per LCA value; sums are unaffected."
    )
    batch_size: int | None = option(
        default=None,
        metavar="N",
        help="Examples per batch of a pass; with BatchNorm it defines the loss.",
        unset="the fastest; 5000 with BatchNorm, as in the paper",
    )
    channels_last: bool | None = option(
        default=None, help="Use the channels-last memory format for images.", unset="the faster format"
    )
    precision: str = option(
        default="fp32",
        choices=PRECISIONS,
        help="Precision of matrix products and convolutions; the audit, always in fp32, measures what it costs.",
    )
    compile: bool = option(default=False, help="Run the model through torch.compile.")
    device: str = option(default="auto", help="Device to allocate on; auto is CUDA if there is one, else the CPU.")

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", self.split)
        for name in ("tolerance", "total_tolerance"):
            if not getattr(self, name) > 0:
                raise UsageError(name, expected="a positive number", found=str(getattr(self, name)))
        if self.max_intervals < 2 or self.max_intervals & (self.max_intervals - 1) or self.max_intervals > 2**14:
            raise UsageError("max_intervals", expected="a power of two from 2 to 16384", found=str(self.max_intervals))
        if not 0 <= self.audit <= 1:
            raise UsageError("audit", expected="a fraction of the iterations from 0 to 1", found=str(self.audit))
        for name in ("batch_size", "examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(name, expected="at least 1", found=str(value))
        if not 1 <= self.keep_bits <= MANTISSA_BITS:
            raise UsageError("keep_bits", expected=f"1 to {MANTISSA_BITS}", found=str(self.keep_bits))
        if self.iterations is not None:
            _parse_slice(self.iterations)

    def range(self, T: int) -> range:
        """The requested iterations, of a run of T."""
        if self.iterations is None:
            return range(T)
        requested = _parse_slice(self.iterations)
        begin, end = requested.start or 0, T if requested.stop is None else requested.stop
        if end > T or begin >= end:
            expected = f"A:B:STEP with 0 ≤ A < B ≤ {T:,}, the iterations of the run"
            raise UsageError("iterations", expected=expected, found=self.iterations)
        return range(begin, end, requested.step)


def _parse_slice(text: str) -> slice:
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(part == "" or part.isdecimal() for part in parts) or parts[2:] == ["0"]:
        expected = "a slice A:B or A:B:STEP without signs, such as 0:100, 400: or ::10"
        raise UsageError("iterations", expected=expected, found=repr(text))
    begin, end, step = ([int(part) if part else None for part in parts] + [None])[:3]
    return slice(begin, end, step or 1)
