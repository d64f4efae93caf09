"""The command line interface. Each command parses its options, makes one call of the library and prints the result."""
