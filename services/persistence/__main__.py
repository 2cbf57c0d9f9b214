"""python -m services.persistence"""

import sys

from libs.common.runtime import start
from libs.common.settings import load
from services.persistence.service import main
from services.persistence.settings import PersistenceSettings

sys.exit(start("persistence", lambda: load(PersistenceSettings), main))
