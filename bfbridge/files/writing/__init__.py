"""New files: their images until the first write, arguments and errors of writes, and completion.

Imported by writer.py, `bfbridge.files.growing`, the modules of `bfbridge.files` that change
finished files, and the layers above them.
"""
