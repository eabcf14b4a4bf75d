"""txlb: a programmable load balancer on Twisted.

Nothing is imported here, so that ``import txlb`` costs nothing and installs no reactor. Start reading at
``docs/architecture.md``; the contracts of everything replaceable are in ``txlb.interfaces``.
"""

__version__ = "0.1.0"
