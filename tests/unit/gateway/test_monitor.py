"""Feed health and alerts, as Redis gets them: raised once, cleared once, over restarts of the gateway too."""

import asyncio

import msgspec
import pytest

from libs.common.domain.errors import Retryable
from libs.common.domain.feed import FeedHealth
from libs.common.domain.moment import NS_PER_S
from libs.common.runtime import Health
from libs.common.testing.fake_bus import FakeBus
from services.gateway.monitor import DOWN_TOO_LONG_NS, Monitor

T0 = 1_700_000_000 * NS_PER_S
UP = FeedHealth(session="LP1", kind="fix", state="established", up=True, at=0, since=0, symbols=2)
DOWN = msgspec.structs.replace(UP, state="disconnected", up=False)


class Recorder:
    refuses: str | None = None


class FakeLink:
    def __init__(self):
        self.report = UP
        self.recorder = Recorder()

    def health(self, at):
        return msgspec.structs.replace(self.report, at=at, since=at)


class Watch:
    def __init__(self, bus=None):
        self.bus = bus or FakeBus()
        self.link = FakeLink()
        self.monitor = Monitor(self.bus, [self.link], Health())
        self.now = T0

    def look(self, report, after_s=1.0):
        self.now += int(after_s * NS_PER_S)
        self.link.report = report
        asyncio.run(self.monitor.run_once(self.now))
        (known,) = asyncio.run(self.bus.feed_health())
        return known

    def alerts(self):
        return [(alert.kind, alert.state) for alert in reversed(asyncio.run(self.bus.alerts(100)))]


def test_since_is_when_the_state_began():
    watch = Watch()
    since = [watch.look(report).since for report in (UP, UP, DOWN, DOWN, UP)]
    assert [(at - T0) // NS_PER_S for at in since] == [1, 1, 3, 3, 5]


def test_a_short_disconnection_is_no_alert_and_a_long_one_is_raised_and_cleared_once():
    watch = Watch()
    for report, after_s in ((UP, 1), (DOWN, 1), (DOWN, 5), (UP, 1), (DOWN, 1)):
        watch.look(report, after_s)
    assert watch.alerts() == []
    for _ in range(3):
        known = watch.look(DOWN, DOWN_TOO_LONG_NS / NS_PER_S)
    assert known.alerts == {"disconnected": "disconnected"}
    watch.look(UP)
    assert watch.alerts() == [("disconnected", "raised"), ("disconnected", "cleared")]


def test_out_of_schedule_is_no_alert():
    watch = Watch()
    for _ in range(3):
        watch.look(msgspec.structs.replace(DOWN, state="out_of_schedule"), 60)
    assert watch.alerts() == []


def test_a_stale_group_a_refused_logon_and_a_disk_that_refuses_are_alerts_of_their_own():
    watch = Watch()
    watch.link.recorder.refuses = "no space left on device"
    refused = msgspec.structs.replace(UP, stale=["fx"], alerts={"logon_rejected": "invalid password"})
    assert watch.look(refused).alerts == {
        "logon_rejected": "invalid password",
        "stale": "no quotes although the market is open: fx",
        "disk": "no space left on device",
    }
    watch.link.recorder.refuses = None
    watch.look(UP)
    assert sorted(watch.alerts()) == sorted(
        (kind, state) for kind in ("stale", "disk", "logon_rejected") for state in ("raised", "cleared")
    )


def test_what_a_former_process_raised_is_cleared_by_its_successor():
    watch = Watch()
    watch.look(msgspec.structs.replace(UP, stale=["fx"]))
    successor = Watch(watch.bus)
    successor.look(UP)
    assert successor.alerts() == [("stale", "raised"), ("stale", "cleared")]


def test_alerts_wait_for_a_redis_that_is_away():
    watch = Watch()
    watch.look(UP)
    watch.bus.refusing = True
    watch.link.report = msgspec.structs.replace(UP, stale=["fx"])
    for _ in range(3):
        watch.now += NS_PER_S
        with pytest.raises(Retryable):
            asyncio.run(watch.monitor.run_once(watch.now))
    watch.bus.refusing = False
    watch.look(UP)
    assert watch.alerts() == [("stale", "raised"), ("stale", "cleared")]
