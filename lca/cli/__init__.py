"""The command-line interface. Each command parses its options, makes one call to the library and prints the result."""
