"""Measurements of speed, memory and disk space. Each module except `passes` and `machine` is a script."""
