"""A port for whoever does not care which."""

import socket
from random import SystemRandom

FREE_PORTS = range(10_000, 32_768)  # below those that the kernel gives to connections: one of these could be gone a moment later
TRIES_MAX = 100


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on at this moment. OSError: none was found."""
    for _ in range(TRIES_MAX):
        port = SystemRandom().choice(FREE_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port on {host} after {TRIES_MAX} tries")
