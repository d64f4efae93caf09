"""Devices, precision, progress bars, signals, and processes that share work."""
