"""Worker processes: starting them, exchanging messages with them, and detecting their end.

`child_process` is the side of the parent, `parent_pipe` that of the worker, `ipc` the messages.
Imported by `bfbridge.convert.execute` and by backends.
"""
