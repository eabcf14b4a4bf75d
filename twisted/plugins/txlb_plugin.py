"""Tells twistd about txlb; imports nothing of it."""

from twisted.application.service import ServiceMaker

txlb = ServiceMaker(
    "txlb", "txlb.service", "A load balancer for HTTP, TCP and UDP: twistd -n txlb --config=lb.yaml", "txlb"
)
