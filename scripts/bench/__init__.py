"""Measurements of speed, memory and disk; each module is a script."""
