"""Servers under load, for bench_look.py: requests a second and their 99th percentile.

The client is a separate process that reads replies and discards them, so that on two CPUs the
server has one and a half. Every contender receives the same requests in the same order.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

__all__ = ["bench_memory", "bench_serve"]

CLIENTS = 6
Run = tuple[float, float, dict[str, int]]
"""Requests a second, the 99th percentile in ms, and the number of replies by status."""
# The end of the scripts whose `app` is an aiohttp application.
RUN_APP = """
async def main():
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("serving at http://127.0.0.1:%d/" % site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
LARGE = (
    """
import sys, large_image
from aiohttp import web
import asyncio
# With a style it decodes and draws; without one it sends the stored JPEG.
style = {"bands": [{"band": n, "palette": p, "min": 0, "max": 255}
    for n, p in ((1, "#f00"), (2, "#0f0"), (3, "#00f"))]} if sys.argv[2] == "drawn" else None
source = large_image.open(
    sys.argv[1], encoding="JPEG", jpegQuality=85, jpegSubsampling=2, style=style)
async def tile(request):
    z, x, y = (int(request.match_info[n]) for n in "zxy")
    loop = asyncio.get_running_loop()
    body = await loop.run_in_executor(None, source.getTile, x, y, z)
    return web.Response(body=body, content_type="image/jpeg")
app = web.Application()
app.router.add_get("/{z}/{x}/{y}", tile)
"""
    + RUN_APP
)
TITILER = """
import sys, socket, warnings
warnings.simplefilter("ignore")
import uvicorn
from fastapi import FastAPI, Response
from rio_tiler.io import ImageReader
app = FastAPI()
@app.get("/{z}/{x}/{y}")
def tile(z: int, x: int, y: int):
    with ImageReader(sys.argv[1]) as image:
        made = image.tile(x, y, z, tilesize=256)
        body = made.render(img_format="JPEG", add_mask=False, quality=85)
    return Response(body, media_type="image/jpeg")
with ImageReader(sys.argv[1]) as image:
    print("zoom", image.maxzoom, flush=True)
listening = socket.socket(); listening.bind(("127.0.0.1", 0))
print("serving at http://127.0.0.1:%d/" % listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
"""
BFFILE = (
    """
import asyncio, sys
path, jar, java, chunk = sys.argv[1:]
import jpype
jpype.startJVM(java, "-Xmx2g", classpath=[jar], convertStrings=False)
from aiohttp import web
from bffile import BioFile
from zarr.core.buffer import default_buffer_prototype
store = BioFile(path).open()[0].to_zarr_store(tile_size=(int(chunk), int(chunk)))
prototype = default_buffer_prototype()
async def get(request):
    y, x = request.match_info["y"], request.match_info["x"]
    data = await store.get(f"c/0/0/0/{y}/{x}", prototype)
    if data is None:
        data = await store.get(f"c/{y}/{x}", prototype)
    return web.Response(body=data.to_bytes())
app = web.Application()
app.router.add_get("/{y}/{x}", get)
"""
    + RUN_APP
)
CLIENT = """
import asyncio, json, sys, time
from urllib.parse import urlsplit
base, clients, header = sys.argv[1], int(sys.argv[2]), sys.argv[3]
paths = sys.stdin.read().split()
parts = urlsplit(base)
times, statuses, received = [], {}, 0
async def client(paths):
    global received
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 24)
    for path in paths:
        begun = time.perf_counter()
        line = f"GET {parts.path.rstrip('/')}/{path} HTTP/1.1\\r\\nHost: {parts.netloc}"
        writer.write(f"{line}\\r\\n{header}\\r\\n".encode())
        head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
        status = int(head.split(None, 2)[1])
        at = head.find(b"content-length:")
        length = 0 if at < 0 or status == 304 else int(head[at + 15 : head.index(b"\\r", at)])
        await reader.readexactly(length)
        received += length
        times.append(time.perf_counter() - begun)
        statuses[status] = statuses.get(status, 0) + 1
    writer.close()
async def main():
    begun = time.perf_counter()
    await asyncio.gather(*(client(paths[i::clients]) for i in range(clients)))
    took = time.perf_counter() - begun
    times.sort()
    print(json.dumps([len(times) / took, times[int(len(times) * .99)] * 1e3,
        times[len(times) // 2] * 1e3, statuses, received / took / 1e6]))
asyncio.run(main())
"""


@contextmanager
def started(command: Sequence[str], env: dict[str, str] | None = None) -> Iterator[tuple[Any, str]]:
    """Start a server; yield its process and URL."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"serving at (http://\S+)/", line)
            if found:
                yield process, found[1]
                return
        assert process.stderr is not None
        raise RuntimeError(process.stderr.read()[-2000:])
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def served(*arguments: str) -> Any:
    """Start our server, which logs nothing."""
    command = [sys.executable, "-m", "bfbridge", "serve", "--port", "0", "--quiet", *arguments]
    return started(command)


def load(url: str, paths: Sequence[str], clients: int = CLIENTS, header: str = "") -> Run:
    """Request all paths."""
    import json

    done = subprocess.run(
        [sys.executable, "-c", CLIENT, url, str(clients), header],
        input="\n".join(paths), capture_output=True, text=True, check=True,
    )  # fmt: skip
    rate, p99, _, statuses, _ = json.loads(done.stdout)
    return rate, p99, statuses


def report(what: str, runs: Sequence[Run], goal: str = "") -> float:
    """Print the median of several runs; return its rate."""
    rate, p99, statuses = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    odd = {s: n for s, n in statuses.items() if s not in ("200", "304")}
    print(f"  {what:60}{rate:9.0f} /s   p99 {p99:7.1f} ms   {goal} {odd or ''}", flush=True)
    return rate


def compare(
    what: str,
    options: argparse.Namespace,
    contenders: dict[str, Callable[[int], Run]],
    goal: str = "",
) -> None:
    """Run contenders in turns, the first of which is bfbridge, and print medians and ratios.

    A contender gets the number of the turn; turn 0 is not counted.
    """
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for turn in range(options.repeats + 1):
        for name, run in contenders.items():
            found = run(turn)
            if turn:
                runs[name].append(found)
    first, *peers = contenders
    rate = report(f"{what}: {first}" if peers else what, runs[first], goal)
    for name in peers:
        peer = report(f"{what}: {name}", runs[name])
        print(f"    {rate / peer:.1f} x {name}")


def make_slide(path: Path, side: int = 8192) -> None:
    import tifffile
    from bench_look import structures

    if not path.exists():
        part = (structures(side) >> 2).astype(np.uint8)
        pixels = np.stack([part, part.T, part[::-1]], axis=2)
        tifffile.imwrite(path, pixels, tile=(256, 256), compression="jpeg", photometric="rgb")


def make_channels(path: Path, side: int = 8192) -> None:
    import tifffile
    from bench_look import structures

    if not path.exists():
        part = structures(side)
        four = np.stack([part, part.T, part[::-1], part[:, ::-1]])
        tifffile.imwrite(
            path, four, tile=(512, 512), ome=True, bigtiff=True, metadata={"axes": "CYX"}
        )


def bench_serve(folder: Path, options: argparse.Namespace) -> None:
    """Tiles and chunks over loopback; in a turn each place once, so that no reply is cached."""
    from bench_look import write_tiffs

    make_slide(folder / "slide.tif")
    make_channels(folder / "four.ome.tif")
    write_tiffs(folder, options.side)
    print(f"\nOver loopback, {CLIENTS} clients; rendered JPEG has quality 85 and 4:2:0")
    with ExitStack() as servers:
        _, url = servers.enter_context(served(str(folder), "--cache", "64"))
        peers = _peers(folder, options, servers)
        _slides(url, options, peers)
        _composites(url, options)
        _cached(url, options)
        _chunks(folder, url, options, peers)
    bench_fling(folder)


def _peers(folder: Path, options: argparse.Namespace, servers: ExitStack) -> dict[str, Any]:
    """Start the servers of peers; return their URLs by kind of work, name and version."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    slide = str(folder / "slide.tif")
    found: dict[str, Any] = {"drawn": {}, "stored": {}, "uncompressed": {}, "deflate": {}}

    def start(kind: str, python: str, package: str, code: str, *arguments: str) -> None:
        version = subprocess.run(
            [python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"],
            capture_output=True, text=True, check=True, env=clean,
        ).stdout.strip()  # fmt: skip
        _, url = servers.enter_context(started([python, "-c", code, *arguments], clean))
        found[kind][f"{package} {version}"] = url

    if options.large_image_python:
        for kind in ("drawn", "stored"):
            start(kind, options.large_image_python, "large_image", LARGE, slide, kind)
    if options.titiler_python:
        start("drawn", options.titiler_python, "rio-tiler", TITILER, slide)
    if options.peer_python:
        from bfbridge_bioformats.jars.locate import find_jar
        from bfbridge_bioformats.runtime.java import find_java

        java = [str(find_jar().paths[0]), str(find_java().library), "512"]
        for kind in ("uncompressed", "deflate"):
            path = str(folder / f"{kind}.ome.tif")
            start(kind, options.peer_python, "bffile", BFFILE, path, *java)
    return found


def _shuffled(across: int) -> list[tuple[int, int]]:
    places = [(a, b) for a in range(across) for b in range(across)]
    random.Random(1).shuffle(places)
    return places


def _slides(url: str, options: argparse.Namespace, peers: dict[str, Any]) -> None:
    places = _shuffled(8192 // 256)
    count = len(places) // (options.repeats + 1)

    def contender(base: str, form: str, count: int) -> Callable[[int], Run]:
        def run(turn: int) -> Run:
            # Other places in each turn, because peers cache tiles.
            part = places[turn * count : (turn + 1) * count] or places
            return load(base, [form.format(x, y, turn) for x, y in part])

        return run

    tile = "tile/slide.tif/0/5/{}/{}.jpg?r={}"
    drawn = {"bfbridge": contender(url, f"{tile}&quality=85", count)}
    stored = {"bfbridge": contender(url, tile, len(places))}
    for kind, contenders in (("drawn", drawn), ("stored", stored)):
        for name, base in peers[kind].items():
            contenders[name] = contender(base, "5/{}/{}", count)
    compare("rendered 256^2 tile of a JPEG slide", options, drawn, "(goal 400 /s, 40 ms)")
    compare("stored JPEG tile, undecoded", options, stored, "(goal 1500 /s)")


def _composites(url: str, options: argparse.Namespace) -> None:
    places = _shuffled(8192 // 512)
    fresh = iter(range(10**6))

    def ours(form: str) -> dict[str, Callable[[int], Run]]:
        # A number that means nothing makes each turn new to the cache of replies.
        return {
            "bfbridge": lambda _: load(url, [form.format(x, y, next(fresh)) for x, y in places])
        }

    for suffix in ("jpg", "webp", "png"):
        tile = f"tile/four.ome.tif/0/4/{{}}/{{}}.{suffix}?size=512&r={{}}"
        what = f"4 x uint16 512^2 composite as {suffix}"
        compare(what, options, ours(tile), "(goal 80 /s, 80 ms)")
    raw = "raw/four.ome.tif/0/0/0/0/{}/{}?size=512&r={}"
    compare("raw tile, 4 x uint16 512^2 (2 MiB)", options, ours(raw))


def _cached(url: str, options: argparse.Namespace) -> None:
    one = ["tile/slide.tif/0/5/3/4.jpg"] * 4000
    compare("cached tile", options, {"bfbridge": lambda _: load(url, one)}, "(goal 2000 /s)")
    header = f"If-None-Match: {_etag(f'{url}/{one[0]}')}\r\n"
    compare("304", options, {"": lambda _: load(url, one, header=header)}, "(goal 2000 /s)")


def _etag(url: str) -> str:
    from urllib.request import urlopen

    with urlopen(url) as answer:
        return str(answer.headers["ETag"])


def _chunks(folder: Path, url: str, options: argparse.Namespace, peers: dict[str, Any]) -> None:
    places = _shuffled(options.side // 512)
    fresh = iter(range(10**6))

    def ours(name: str) -> Callable[[int], Run]:
        path = f"zarr/{name}.ome.zarr/0/c/0/0/0/{{}}/{{}}?r={{}}"
        return lambda _: load(url, [path.format(y, x, next(fresh)) for y, x in places])

    def theirs(base: str) -> Callable[[int], Run]:
        return lambda _: load(base, [f"{y}/{x}" for y, x in places])

    for name, goal in (("uncompressed", 800), ("deflate", 200)):
        contenders = {"bfbridge": ours(f"{name}.ome.tif")}
        contenders |= {peer: theirs(base) for peer, base in peers[name].items()}
        what = f"virtual chunk 512^2 uint16, {name}"
        compare(what, options, contenders, f"(goal {goal} /s)")
    # Bio-Formats makes its pixels from its name.
    java = f"java&sizeX={options.side}&sizeY={options.side}&pixelType=uint16.fake"
    (folder / java).touch()
    what = "virtual chunk 512^2 uint16, through Java"
    compare(what, options, {"bfbridge": ours(quote(java))}, "(goal 100 /s)")


# ---- abandoned requests, memory


def bench_fling(folder: Path) -> None:
    """A viewer that moves on before its tiles have come."""
    import aiohttp

    async def fling(url: str) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=6)) as session:

            async def one(x: int, y: int) -> None:
                path = f"tile/four.ome.tif/0/5/{x}/{y}.png?r=1"
                async with session.get(f"{url}/{path}") as answer:
                    await answer.read()

            for place in range(30):
                tasks = [
                    asyncio.create_task(one(place % 28 + dx, dy))
                    for dx in range(4)
                    for dy in range(8)
                ]
                await asyncio.sleep(0.05 if place < 29 else 5)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    with served(str(folder)) as (_, url):
        load(url, ["tile/four.ome.tif/0/0/0/0.png"])
        asyncio.run(fling(url))
        numbers = _metrics(url)
    left = 29 * 32
    wasted, done = numbers["bfbridge_wasted_total"], numbers["bfbridge_computed_total"]
    print(
        f"  fling: {left} tiles abandoned, {wasted:.0f} of them computed nonetheless "
        f"({wasted / left:.1%}, goal 5 %), of {done:.0f} computed in all"
    )


def _metrics(url: str) -> dict[str, float]:
    from urllib.request import urlopen

    with urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#") and " " in line)
    return {name: float(value) for name, value in pairs}


def bench_memory(folder: Path, options: argparse.Namespace) -> None:
    """Random tiles of an image of 100 000 x 100 000 pixels, 64 clients."""
    import tifffile

    path = folder / "huge.tif"
    side, tile = 100_000, 512
    if not path.exists():
        y, x = np.mgrid[:tile, :tile]
        some = [zlib.compress(((y * n + x) % 4001).astype("<u2").tobytes(), 1) for n in range(1, 9)]
        count = (-(-side // tile)) ** 2
        tifffile.imwrite(
            path, (some[i % 8] for i in range(count)), shape=(side, side), dtype="<u2",
            tile=(tile, tile), bigtiff=True, compression="zlib",
        )  # fmt: skip
    order = random.Random(0)
    across = side // tile
    with served(str(path)) as (process, url):
        peaks = []
        for _ in range(4):
            paths = [
                f"raw/huge.tif/0/0/0/0/{order.randrange(across)}/{order.randrange(across)}"
                for _ in range(2500)
            ]
            begun = time.perf_counter()
            _, _, statuses = load(url, paths, clients=64)
            peaks.append(_memory(process.pid))
            took = time.perf_counter() - begun
            print(f"  2500 tiles, 64 clients: {took:.1f} s, {peaks[-1]:.0f} MB {statuses}")
    print(f"  memory of the server: {max(peaks):.0f} MB (goal 1200, flat)")


def _memory(pid: int) -> float:
    """Return the highest memory of a process so far, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
