"""python -m tests.chaos: the pipeline under kill -9, full disks, a Redis that forgets and a hostile LP, held against ledgers."""
