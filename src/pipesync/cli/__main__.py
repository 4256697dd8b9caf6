"""`python -m pipesync.cli`, for where the script is not on the path."""

from pipesync.cli import main

main(prog_name="pipesync")
