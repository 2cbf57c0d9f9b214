"""python -m services.lifecycle"""

import sys

from libs.common.runtime import start
from libs.common.settings import load
from services.lifecycle.service import main
from services.lifecycle.settings import LifecycleSettings

sys.exit(start("lifecycle", lambda: load(LifecycleSettings), main))
