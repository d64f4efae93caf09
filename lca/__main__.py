"""python -m lca, for torchrun."""

from lca.cli.main import main

main()
