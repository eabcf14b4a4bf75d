"""Benchmarks of txlb beside HAProxy, nginx and Envoy: ``python -m benchmarks --help``.

The rules every scenario keeps:

1. The harness starts the backends, every proxy and the load generator itself, on free loopback ports, and
   ends them by pid.
2. One worker each: txlb ``workers: 1``, HAProxy ``nbthread 1``, nginx ``worker_processes 1``.
3. The proxy has the last processor to itself; load, backend and log reader share the others (``--no-pin`` to
   let go).
4. Contenders run in turn, A B C A B C …; a ratio is the median of the ratios within each round, so that a
   slow spell of the machine falls on both sides of it.
5. The cost is CPU time, user and system, of *all* processes of a proxy, per unit of work; beside it what the
   whole machine spends beyond the direct path, so that work pushed onto the kernel is seen as well.
6. A run with a single error (socket error, status other than 2xx, short answer, restarted worker) is invalid.
7. Every proxy writes the same facts about every request to a live log; the lines are counted afterwards.
"""
