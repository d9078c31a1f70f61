"""`python -m deploy ...` is `repertory ...` of the source tree one stands in."""

from deploy.cli import main

main()
