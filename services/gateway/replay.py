"""One record of a journal applied to a session: the same step live, in recovery, and when publishing again."""

from services.gateway.fix.session import Session
from services.gateway.fix.wire import FieldError, Message, parse
from services.gateway.journal import Direction, Journal, Record


def apply_record(session: Session, record: Record) -> None:
    """Bring the session's state forward; what it wants to send was sent, or not, when the record was written."""
    match record.direction:
        case Direction.IN:
            session.received(record.data, record.recv_ts)
        case Direction.OUT:
            apply_sent(session, record.data)
        case Direction.OPENED:
            session.opened(record.recv_ts)
        case Direction.CLOSED:
            session.closed(record.recv_ts)
        case Direction.SNAPSHOT:
            session.restore(record.data)
    session.sends.clear()


def apply_sent(session: Session, frame: bytes) -> None:
    """A message of ours, as the journal has it."""
    message = _parse_own(frame)
    session.sent(message.get(35) or b"", message.required_number(34), poss_dup=message.flag(43))


def _parse_own(frame: bytes) -> Message:
    try:
        return parse(frame)
    except FieldError as error:
        raise AssertionError(f"the journal holds a message of ours that does not parse: {error}") from error


def recover(journal: Journal, session: Session) -> None:
    """Replay the last segment, so that the session stands where it stood; what comes out is left to the publisher."""
    journal.recover()
    if not journal.end:
        return
    for record in journal.read(journal.end):
        if record is None:
            break
        apply_record(session, record)
        session.take()
