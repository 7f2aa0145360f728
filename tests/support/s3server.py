"""A local S3 (moto) that counts what it sends and asks for a key."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.webserver import Web

__all__ = ["serve_s3"]

BUCKET = "images"


@contextmanager
def serve_s3(folder: Path, secret: str) -> Iterator[tuple[Web, dict[str, Any]]]:
    """Serve a bucket with what is in a folder; yield it, and the storage options that open it.

    Parameters
    ----------
    folder
        What the bucket holds.
    secret
        Name of the key that requests must be signed with.
    """
    import s3fs
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)

    def counted(environ: Any, start: Any) -> Iterable[bytes]:
        if f"Credential={secret}/" not in environ.get("HTTP_AUTHORIZATION", ""):
            start("403 Forbidden", [("Content-Length", "0")])
            return []
        body = list(moto(environ, start))
        if environ["REQUEST_METHOD"] == "GET":
            web.count(sum(map(len, body)))
        return body

    server = make_server("127.0.0.1", 0, counted, threaded=True)
    web = Web(f"s3://{BUCKET}", secret)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    place = {"endpoint_url": f"http://127.0.0.1:{server.port}", "region_name": "eu-west-1"}
    options = {"key": secret, "secret": "hush-hush", "client_kwargs": place}
    try:
        there = s3fs.S3FileSystem(**options, skip_instance_cache=True)
        # moto keeps its buckets for the process: another test may have left this one.
        if there.exists(BUCKET):
            there.rm(BUCKET, recursive=True)
        there.mkdir(BUCKET)
        there.put(f"{folder}/", f"{BUCKET}/", recursive=True)
        yield web, options
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
