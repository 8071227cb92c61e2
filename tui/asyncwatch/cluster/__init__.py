"""Attempts on a Dask cluster: each attempt of a function runs in a process of the cluster, and all else stays here.

A target is wrapped into one that submits its call as a Dask task and awaits it (`client.py`). Each process of the
cluster has a host, which runs the calls (`host.py`). `travel.py` says how functions, values and errors get there and
back. `local.py` starts a cluster of processes on this machine, each of which runs `node.py`.
"""

import sys

import dask

# Dask prints tracebacks of what a cluster reports in a line of its own. A program that uses Dask itself has its way.
if "distributed" not in sys.modules and not dask.config.get("logging", None):
    dask.config.set(
        {"logging": {"distributed": "critical", "distributed.client": "critical", "tornado.application": "critical"}}
    )
