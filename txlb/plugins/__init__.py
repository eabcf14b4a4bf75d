"""Where Twisted plug-ins for txlb live: a module in any ``txlb/plugins/`` folder on the Python path.

What provides Twisted's `IPlugin` and `txlb.interfaces.IAlgorithmFactory` there is an
algorithm that the configuration can name.
"""

from __future__ import annotations

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
