from __future__ import annotations

from benchmarks import report
from benchmarks.report import Table

TABLE = Table("http-x", ["proxy", "CPU µs"], [["nginx", "22.5"], ["txlb", "1,200.0"]], ["best peer: nginx"])


def test_text_puts_names_left_and_figures_right():
    assert report.as_text(TABLE).splitlines() == [
        "http-x",
        "  proxy   CPU µs",
        "  nginx     22.5",
        "  txlb   1,200.0",
        "  best peer: nginx",
    ]


def test_markdown_is_a_table():
    assert report.as_markdown(TABLE).splitlines() == [
        "### http-x",
        "",
        "| proxy | CPU µs |",
        "| --- | ---: |",
        "| nginx | 22.5 |",
        "| txlb | 1,200.0 |",
        "",
        "best peer: nginx",
    ]


def test_json_names_each_figure():
    document = report.as_json(TABLE)
    assert document["rows"] == [
        {"proxy": "nginx", "CPU µs": "22.5"},
        {"proxy": "txlb", "CPU µs": "1,200.0"},
    ]


def test_figures_read_well():
    assert report.number(12345.678, 0) == "12,346"
    assert report.number(None) == report.ratio(None) == "-"
    assert (report.ratio(1.005), report.share(0.051)) == ("1.00", "5%")
    assert report.mebibytes(3 << 19) == "1.5 MiB"
