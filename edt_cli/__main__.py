"""`python -m edt_cli` is `edt`."""

from edt_cli.cli.app import main

main()
