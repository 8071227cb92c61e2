"""Attempts on a Dask cluster: each attempt of a function runs in a process of the cluster, and all else stays here.

A target is wrapped into one that submits its call as a Dask task and awaits it (`client.py`). Each process of the
cluster has a host, which runs the calls (`host.py`). `travel.py` says how functions, values and errors get there and
back. `local.py` starts a cluster of processes on this machine, each of which runs `node.py`.
"""
