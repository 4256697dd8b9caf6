"""`python -m pipesync.sandbox`."""

from pipesync.sandbox.process import main

main()
