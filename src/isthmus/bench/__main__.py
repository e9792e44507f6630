"""``python -m isthmus.bench`` is ``isthmus bench``."""

import sys

from isthmus.bench.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
