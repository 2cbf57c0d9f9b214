"""Feeds that speak JSON: WebSocket streams, polled REST endpoints, and the sink that clients post ticks to."""
