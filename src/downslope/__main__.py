"""`python -m downslope` is the `downslope` command."""

import sys

from downslope.cli import main

if __name__ == "__main__":
    sys.exit(main())
