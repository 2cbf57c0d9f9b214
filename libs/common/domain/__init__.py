"""The words of the trade and their rules: ticks, prices, times, symbols. Nothing of ours below it, no I/O, no clock."""
