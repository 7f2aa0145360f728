"""Facilities of the process: forks, interrupts, finalizers, argument checks, operating systems.

`processes` has the worker processes and the messages to them.

Imported by every other package and by backends; imports `bfbridge.errors` only.
"""
