"""Where and how things run: devices, precision, progress, signals, and processes that share work."""
