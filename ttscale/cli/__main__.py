"""`python -m ttscale.cli`: the command where the script is not on the path."""

import sys

from ttscale.cli import main

if __name__ == "__main__":
    sys.exit(main())
