"""How a service lives: start, beat, answer for its health, drain, exit."""

from libs.common.runtime.backoff import Backoff, pause
from libs.common.runtime.health import Health
from libs.common.runtime.service import Loop, StartError, run, start

__all__ = ["Backoff", "Health", "Loop", "StartError", "pause", "run", "start"]
