"""python -m services.lifecycle.cli: `tickvault` where it is not installed."""

import sys

from services.lifecycle.cli import main

sys.exit(main())
