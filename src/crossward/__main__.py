"""python -m crossward: the same as the command `crossward`."""

from crossward.cli import main

main()
