"""Two who look for a free port at the same time do not find the same one."""

import asyncio
import subprocess
import sys

import pytest

from libs.common.runtime import ports


def test_a_port_is_given_once_until_whoever_asked_listens_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.free_port()
    monkeypatch.setattr(ports, "FREE_PORTS", [port])
    with pytest.raises(OSError, match="no free port on"):
        ports.free_port()
    other = f"from libs.common.runtime import ports; ports.FREE_PORTS = [{port}]; ports.free_port()"
    assert subprocess.run([sys.executable, "-c", other], capture_output=True, check=False).returncode == 1

    async def serve() -> bytes:
        async with await asyncio.start_server(lambda _, writer: (writer.write(b"here"), writer.close()), "127.0.0.1", port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(serve()) == b"here"


def test_only_so_many_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "HELD_MAX", 2)
    monkeypatch.setattr(ports, "_held", type(ports._held)())
    first, *_ = [ports.free_port() for _ in range(3)]
    assert len(ports._held) == 2
    monkeypatch.setattr(ports, "FREE_PORTS", [first])
    assert ports.free_port() == first
    while ports._held:
        ports._held.pop().close()
