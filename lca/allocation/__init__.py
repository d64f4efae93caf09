"""Allocation of the loss changes of a recorded run to its parameters."""
