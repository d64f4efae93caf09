"""Entry point of `python -m lca`, which torchrun needs."""

from lca.cli.main import main

main()
