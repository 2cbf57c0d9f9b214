"""What the gateway tells Prometheus: of each feed, what its health report says; of its recorder, how far it is behind."""

from collections.abc import Callable, Iterable, Sequence

from libs.common.domain.feed import FeedHealth
from libs.common.telemetry import gauge, total
from libs.common.telemetry.metrics import Reading
from services.gateway.monitor import Link
from services.gateway.recorder import Recorder, now_ns


def register(links: Sequence[Link]) -> None:
    def of_each(read: Callable[[FeedHealth], float | None]) -> Callable[[], Iterable[Reading]]:
        def readings() -> Iterable[Reading]:
            reports = [link.health(now_ns()) for link in links]
            return [(value, {"session": report.session}) for report in reports if (value := read(report)) is not None]

        return readings

    def of_recorders(read: Callable[[Recorder], float]) -> Callable[[], Iterable[Reading]]:
        return lambda: [(read(link.recorder), {"session": link.feed.name}) for link in links]

    gauge("fix_session_up", "1 while the session is established", of_each(lambda report: report.up))
    gauge("fix_session_next_in_seqnum", "the MsgSeqNum expected next", of_each(lambda report: report.next_in))
    gauge("fix_session_next_out_seqnum", "the MsgSeqNum sent next", of_each(lambda report: report.next_out))
    gauge(
        "fix_session_heartbeat_rtt",
        "round trip of the last TestRequest",
        of_each(lambda report: report.heartbeat_rtt_s),
        unit="s",
    )
    gauge("feed_stale_groups", "market-hours groups that are open and quiet", of_each(lambda report: len(report.stale)))
    gauge("feed_symbols", "symbols subscribed to", of_each(lambda report: report.symbols))
    gauge("feed_symbols_refused", "symbols the provider refused", of_each(lambda report: len(report.refused_symbols)))
    gauge("feed_open_gaps", "gaps that have not ended", of_each(lambda report: report.open_gaps))
    gauge(
        "journal_behind", "1 while the journal, not memory, holds what is to be published",
        of_recorders(lambda recorder: recorder.publisher.behind),
    )  # fmt: skip
    gauge(
        "journal_not_durable", "journal positions not yet durable downstream",
        of_recorders(lambda recorder: max(0, recorder.journal.end - max(recorder.publisher.durable, 0))), unit="By",
    )  # fmt: skip
    total("fix_messages", "messages received", of_each(lambda report: report.messages))
    total("fix_garbled", "pieces that were no FIX frame", of_each(lambda report: report.garbled))
    total("fix_rejects_received", "Reject and BusinessMessageReject received", of_each(lambda report: report.rejects_received))
    total("fix_resend_requests", "ResendRequests sent", of_each(lambda report: report.resend_requests))
    total("fix_duplicates_dropped", "possible duplicates already seen", of_each(lambda report: report.duplicates_dropped))
    total(
        "fix_entries_ignored", "market data entries of other types than asked for",
        lambda: [(link.ignored_entries, {"session": link.feed.name}) for link in links],
    )  # fmt: skip
    total(
        "ticks_published", "ticks published, those published again included",
        of_recorders(lambda recorder: recorder.publisher.published_ticks),
    )  # fmt: skip
