"""`python -m pricesmith.testing shop.csv new.csv` makes a shop's table and one of new goods."""

import sys
from pathlib import Path

from pricesmith.testing import make_csv

if len(sys.argv) != 3:
    raise SystemExit("usage: python -m pricesmith.testing shop.csv new.csv")
make_csv(Path(sys.argv[1]), 2600)
make_csv(Path(sys.argv[2]), 30, seed=1)
