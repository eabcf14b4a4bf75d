"""For ``twistd -y``: txlb with the stand-in plane and the configuration that TXLB_TEST_CONFIG names."""

from __future__ import annotations

import os
import sys
from functools import partial

from support import plane
from twisted.application.service import Application
from twisted.internet import reactor

from txlb.config.load import load
from txlb.service import build

_load = partial(load, os.environ["TXLB_TEST_CONFIG"], os.environ)
application = Application("txlb")
build(
    _load().snapshot,
    reactor,
    load=_load,
    plane=plane.StandInPlane,
    command=[sys.executable, plane.__file__],
).setServiceParent(application)
