"""Facilities of the process: forks, interrupts, finalizers, argument checks, operating systems.

Imported by every other package and by backends; imports `bfbridge.errors` only.
"""
