"""A port for whoever does not care which."""

import atexit
import os
import socket
from collections import deque
from random import SystemRandom

FREE_PORTS = range(10_000, 32_768)  # below those that the kernel gives to connections: one of these could be gone a moment later
TRIES_MAX = 100
HELD_MAX = 200

_held: deque[socket.socket] = deque()


@atexit.register
def _let_go() -> None:
    while _held:
        _held.popleft().close()


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on, which nobody else is given for a while. OSError: none was found.

    A socket stays bound to it. That keeps those away who look for a free port, but not a server, which binds with SO_REUSEADDR.
    """
    for _ in range(TRIES_MAX):
        port = SystemRandom().choice(FREE_PORTS)
        holder = socket.socket()
        try:
            holder.bind((host, port))
        except OSError:
            holder.close()
            continue
        if os.name != "posix":  # where that option means that anybody may take the port over
            holder.close()
            return port
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if len(_held) == HELD_MAX:
            _held.popleft().close()
        _held.append(holder)
        return port
    raise OSError(f"no free port on {host} after {TRIES_MAX} tries")
