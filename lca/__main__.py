from lca.cli.main import main

main()
