"""What tests, benchmarks and the demo share: a real Redis, processes to start and kill, a bus in memory."""
