"""Worker processes: starting them, messages to and from them, and noticing that one has ended.

`child_process` is the parent's side, `parent_pipe` the worker's, `ipc` the messages of both.
Imported by `bfbridge.convert.execute` and by backends; imports `bfbridge.storage` and
`bfbridge.errors`.
"""
