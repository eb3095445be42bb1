"""The lab: builds real QEMUs, brings about incidents, takes cores and the truth about them.

Run from the root of the repository; docs/lab.md explains it: ``python -m tests.lab all``.
"""
