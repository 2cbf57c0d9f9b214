"""Settings in, exit code out."""

import sys

from libs.common.runtime import start
from libs.common.settings import load
from services.distribution.service import main
from services.distribution.settings import DistributionSettings

if __name__ == "__main__":
    sys.exit(start("distribution", lambda: load(DistributionSettings), main))
