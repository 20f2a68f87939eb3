"""Deterministic simulation: real handlers on simulated storage, queues, clocks and crashes.

`world` has the simulated services and the processes, `scenarios` the clients, `checks` the guarantees, `planted`
the bugs to be found. The event loop, the shrinking and the replay are those of `detangle`.

    python -m tests.simulation --schedules 10000
"""
