"""The two failures a caller may expect; anything else is a bug and ends the process."""


class Rejected(Exception):  # noqa: N818 - "rejected" is the trade's word, as in a FIX Reject
    """The input cannot be accepted as it is: quarantine it, or answer 4xx. Trying again changes nothing."""


class Retryable(Exception):  # noqa: N818
    """A part we depend on cannot do it now: leave the input unacknowledged, back off, try again."""
