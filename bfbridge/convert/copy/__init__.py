"""From one source to its new files: blocks of pixels or encoded chunks, scaled where asked.

Imported by `bfbridge.convert.execute`.
"""
