"""A whole cluster in one process: virtual time, a network and disks that misbehave, all from one seed.

Read next: `disk.py`.
"""
