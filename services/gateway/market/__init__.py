"""Market data as facts: messages of any feed in; numbered, flagged ticks, books and trades out."""
