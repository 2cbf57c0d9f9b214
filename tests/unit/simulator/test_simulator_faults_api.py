"""Faults are asked for over HTTP."""

import asyncio

import httpx
import pytest

from services.simulator.fault import KINDS
from services.simulator.routes import FaultApp


class FakeSession:
    def __init__(self, client):
        self.client = client
        self.injected = []

    def inject(self, fault, stall_s):
        self.injected.append((fault, stall_s))


@pytest.fixture
def sessions():
    return [FakeSession("A"), FakeSession("B"), FakeSession("")]


def ask(sessions, method, path):
    async def main():
        transport = httpx.ASGITransport(app=FaultApp(sessions))
        async with httpx.AsyncClient(transport=transport, base_url="http://simulator") as client:
            return await client.request(method, path)

    return asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_strikes_all_that_are_logged_on(sessions, kind):
    answer = ask(sessions, "POST", f"/faults/{kind}")
    assert (answer.status_code, answer.json()) == (202, {"fault": kind, "clients": ["A", "B"]})
    assert [session.injected for session in sessions] == [[(kind, 5.0)], [(kind, 5.0)], []]


def test_a_fault_may_name_its_client_and_its_seconds(sessions):
    assert ask(sessions, "POST", "/faults/stall?client=B&seconds=0.5").json()["clients"] == ["B"]
    assert [session.injected for session in sessions] == [[], [("stall", 0.5)], []]


def test_an_unknown_fault_is_answered_with_the_known_ones(sessions):
    answer = ask(sessions, "POST", "/faults/earthquake")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert all(kind in answer.json()["detail"] for kind in KINDS)


def test_faults_are_posted(sessions):
    assert ask(sessions, "GET", "/faults/drop").status_code == 405


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", "99999"])
def test_seconds_that_make_no_sense_are_refused(sessions, seconds):
    assert ask(sessions, "POST", f"/faults/stall?seconds={seconds}").status_code == 400
    assert sessions[0].injected == []
