"""`python -m coldstart`."""

from coldstart.cli.app import main

main()
