"""Devices, precision, CUDA graphs, progress bars, signals, and processes that share work."""
