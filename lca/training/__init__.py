"""Training of a problem, with every iterate recorded."""
