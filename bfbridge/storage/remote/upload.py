"""New files at URLs in formats that are written on disks: made on this machine, then uploaded."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bfbridge.errors import BfbridgeError, MissingExtra, TargetExists, WriteFailed
from bfbridge.runtime import forking
from bfbridge.storage.remote.object_store import UrlTarget
from bfbridge.storage.remote.url_chain import behind_cache

if TYPE_CHECKING:
    from bfbridge.storage.source import Source

__all__ = ["UploadTarget"]


class UploadTarget(UrlTarget):
    """One file being written for a URL. It is uploaded whole by `commit`, as one object.

    Parameters
    ----------
    source
        Of the URL.
    overwrite
        Whether an object there may be replaced. It is unchanged until `commit`.

    Attributes
    ----------
    work_path
        Where the file is made: in `folder`, a private folder for temporary files.

    Raises
    ------
    TargetExists
        There is an object, and `overwrite` was not given.
    WriteFailed
        The server cannot be reached.
    """

    def __init__(self, source: Source, *, overwrite: bool = False) -> None:
        self.path = source.name
        self._overwrite = overwrite
        self._filesystem, self._key = source.located()
        self._pid = os.getpid()
        self._mutex = forking.lock()
        self._over = self.occupied = False
        self._refuse_existing()
        self.folder = Path(tempfile.mkdtemp(prefix="bfbridge-upload-"))
        self.work_path = self.folder / source.filename

    def begin(self) -> None:
        """Do nothing: what is at the URL stays until `commit`."""

    def commit(self) -> None:
        """Upload the file.

        Raises
        ------
        TargetExists
            Somebody else made the object meanwhile, and `overwrite` was not given.
        WriteFailed
            The server refuses, or the object has another size than the file.
        """
        self.check_owner()
        with self._mutex:
            if self._over:
                return
            self._over = True
            try:
                self._refuse_existing()
                self._upload()
            finally:
                shutil.rmtree(self.folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove the file; nothing to do after `commit` or in a forked child."""
        if self.owned:
            with self._mutex:
                self._over = True
                shutil.rmtree(self.folder, ignore_errors=True)

    def _refuse_existing(self) -> None:
        if self._overwrite:
            return
        try:
            self._filesystem.invalidate_cache(self._key)
            taken = behind_cache(self._filesystem).exists(self._key)
        except Exception as error:
            raise self._failed(error) from error
        if taken:
            raise TargetExists(
                f"{self.path} exists. Pass overwrite=True (--overwrite on the command line) to "
                "replace it, or choose another name."
            )

    def _upload(self) -> None:
        length = self.work_path.stat().st_size
        try:
            self._filesystem.put_file(str(self.work_path), self._key)
            self._filesystem.invalidate_cache(self._key)
            found = behind_cache(self._filesystem).size(self._key)
        except Exception as error:
            raise self._failed(error) from error
        if found is not None and found != length:
            raise WriteFailed(
                f"{self.path}: {length:,} bytes were uploaded, but the object has {found:,}. "
                "Remove it, and write it again."
            )

    def _failed(self, error: Exception) -> BfbridgeError:
        if isinstance(error, ImportError):
            return MissingExtra(f"{self.path}: {error}.")
        return WriteFailed(f"{self.path}: cannot be written ({type(error).__name__}: {error}).")
