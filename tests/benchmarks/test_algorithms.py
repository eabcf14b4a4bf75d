from __future__ import annotations

from benchmarks import algorithms
from txlb.core.algorithms import builtin_factories


def test_every_algorithm_has_a_row_for_every_number_of_backends(capsys):
    assert algorithms.main(["--backends", "1,20", "--rounds", "1", "--times", "1", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("### choosing, txlb ")
    rows = [line.split("|")[1:-1] for line in lines[4:] if line]
    names = [(row[0].strip(), row[1].strip()) for row in rows]
    assert names == [(name, count) for name in builtin_factories() for count in ("1", "20")]
    assert all(float(cell.replace(",", "")) >= 0 for row in rows for cell in row[2:])


def test_a_benchmark_leaves_nobody_watching():
    members = algorithms.backends(3)
    make = algorithms.factory_for(algorithms.AlgorithmSpec("least_connections"))
    algorithms.leases(make, members, [algorithms.Client(1)], 5)
    algorithms.rebuild(make, members)
    assert not any(one.watchers or one.active_connections for one in members)
