"""Work-conserving devices: queues and retrainings that share a GPU, event by event, in compiled code.

`pool` holds what all devices of a simulation have in common, `device` one of them; both keep their state in the tables
of `tables`, on which the compiled functions of `events` (the loop), `requests`, `clock` and `heaps` work.
"""
