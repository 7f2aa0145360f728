"""What belongs to the process, not to a file: forks, interrupts, finalizers, argument checks.

Imported by every other package and by backends; imports `bfbridge.errors` only.
"""
