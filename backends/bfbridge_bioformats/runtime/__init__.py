"""The JVM of this process: starting it, its settings, its class archive, its log, calls into it.

Imported by the other packages of this backend.
"""
