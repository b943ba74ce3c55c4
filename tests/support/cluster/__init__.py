"""A Kubernetes of one node on this machine, for the tests of the chart."""

from __future__ import annotations

from support.cluster.cluster import Cluster, RefusedError

__all__ = ["Cluster", "RefusedError"]
