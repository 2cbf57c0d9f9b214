"""python -m services.gateway"""

import sys

from libs.common.runtime import start
from libs.common.settings import load
from services.gateway.service import main
from services.gateway.settings import GatewaySettings

sys.exit(start("gateway", lambda: load(GatewaySettings), main))
