"""Logs as JSON lines on stderr, and metrics read on `/metrics`."""

from libs.common.telemetry.logs import configure_logs, logger
from libs.common.telemetry.metrics import configure_metrics, exposition, gauge, histogram, total

__all__ = ["configure_logs", "configure_metrics", "exposition", "gauge", "histogram", "logger", "total"]
