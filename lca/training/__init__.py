"""Training the built-in problems, or any other, with every iterate recorded."""
