"""The methods of bench.alternatives, each implemented as a user would write it."""
