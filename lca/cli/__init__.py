"""The commands of the shell: parse, one library call, print."""
