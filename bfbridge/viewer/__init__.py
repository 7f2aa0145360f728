"""The viewer: a page that shows images in a browser, and the same in notebooks.

`page` adds the page to a server of `bfbridge.serve`; `assets` returns the files for the browser,
from `static`; `presence` ends a server when its pages are closed; `widget` shows images in
notebooks; `others` opens images in other viewers.
"""
