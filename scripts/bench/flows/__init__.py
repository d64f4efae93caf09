"""The methods of bench.alternatives, each implemented as one would write it."""
