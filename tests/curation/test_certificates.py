"""`convert(certify=True)` writes an RO-Crate, and `verify_crate` finds what differs from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bfbridge
from bfbridge import BioReader, BioWriter, convert, imwrite
from bfbridge.convert import convert_many
from bfbridge.convert.verification.hashes import hash_path, hash_pixels
from bfbridge.curation import verify_crate
from bfbridge.errors import BadArgument, FileChanged, FileMissing, TargetExists
from tests.support.commands import Run
from tests.support.samples import distinct

PIXELS = distinct((2, 3, 2, 40, 50))


def source_of(folder: Path) -> Path:
    path = folder / "a µ.ome.tif"
    imwrite(path, PIXELS, axes="TCZYX", pixel_size=0.5, name="cells")
    return path


def codes(path: Path, **options: Any) -> list[tuple[str, str]]:
    return [(f.severity, f.code) for f in verify_crate(path, **options).findings]


def canonical(tczyx: np.ndarray, tile: int = 1024) -> str:
    """The documented checksum, written again."""
    little = tczyx.astype(tczyx.dtype.newbyteorder("<"))
    sums = b"".join(
        hashlib.sha256(plane[y : y + tile, x : x + tile].tobytes()).digest()
        for plane in little.reshape(-1, *little.shape[3:])
        for y in range(0, plane.shape[0], tile)
        for x in range(0, plane.shape[1], tile)
    )
    return hashlib.sha256(sums).hexdigest()


# ---- hashes


@pytest.mark.slow(ci=True)
def test_checksum_is_independent_of_storage(tmp_path: Path) -> None:
    pixels = distinct((2, 3, 1, 1100, 2100), np.uint32)
    for name, options in {
        "a.ome.tif": {"tile": 256}, "b.ome.zarr": {"chunks": (2, 3, 1, 700, 900)},
        "c.ome.zarr": {"shards": 512, "chunks": 128},
    }.items():  # fmt: skip
        imwrite(tmp_path / name, pixels, axes="TCZYX", pyramid=False, **options)
    tifffile.imwrite(tmp_path / "d.ome.tif", pixels, byteorder=">", rowsperstrip=77,
                     metadata={"axes": "TCZYX"}, ome=True)  # fmt: skip
    for name in "a.ome.tif", "b.ome.zarr", "c.ome.zarr", "d.ome.tif":
        for memory in (1, 1 << 26):
            with BioReader(tmp_path / name) as br:
                assert hash_pixels(br, 2, memory) == canonical(pixels), (name, memory)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_checksum_of_types_and_samples(tmp_path: Path, dtype: str) -> None:
    values = distinct((1, 3, 1, 9, 7)).astype(dtype)
    with BioWriter(tmp_path / "a.ome.tif", samples_per_pixel=3) as bw:
        bw[:] = values.transpose(3, 4, 2, 1, 0)
    with BioReader(tmp_path / "a.ome.tif") as br:
        assert hash_pixels(br, 1, 1) == canonical(values)


def test_hash_of_a_folder_is_that_of_sha256sum(tmp_path: Path) -> None:
    for name in ("b/x", "b.c", "a/é"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    listing = "".join(
        f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(("b/x", "b.c", "a/é"), key=os.fsencode)
    )
    assert hash_path(tmp_path) == (hashlib.sha256(listing.encode()).hexdigest(), 10)
    with pytest.raises(FileMissing):
        hash_path(tmp_path / "missing")


# ---- the crate


@pytest.mark.parametrize("name", ["b.ome.tif", "b.ome.zarr"])
def test_crate_describes_the_conversion(tmp_path: Path, name: str) -> None:
    source = source_of(tmp_path)
    done = convert(source, tmp_path / name, certify=True, verify=True, z=[1, 0], chunks=16)
    crate = tmp_path / f"{name}.crate/ro-crate-metadata.json"
    assert done.files[0].outputs[0].crate == str(crate)
    assert os.listdir(crate.parent) == [crate.name]
    content = json.loads(crate.read_text())
    assert content["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    entities = {entity["@id"]: entity for entity in content["@graph"]}
    assert len(entities) == len(content["@graph"])
    # Flattened JSON-LD: every reference is to an entity of the graph, or to a URL.
    values = [value for entity in content["@graph"] for value in entity.values()]
    lists = [value if isinstance(value, list) else [value] for value in values]
    references = [ref["@id"] for found in lists for ref in found if isinstance(ref, dict)]
    assert {r for r in references if not r.startswith("http")} <= set(entities)
    assert all(set(v) == {"@id"} for e in content["@graph"] for v in e.values()
               if isinstance(v, dict))  # fmt: skip
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    assert root["@type"] == "Dataset"
    assert {"name", "description", "datePublished", "license"} <= set(root)
    target = f"../{name}" + "/" * name.endswith("zarr")
    assert root["hasPart"] == [{"@id": target}, {"@id": source.as_uri()}]
    assert entities[source.as_uri()]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert entities[source.as_uri()]["contentSize"] == str(source.stat().st_size)
    image = entities["#image-0"]
    assert image["pixelSha256"] == canonical(PIXELS[:, :, ::-1])
    assert (image["shape"], image["dtype"]) == ("Y=40,X=50,Z=2,C=3,T=2", "uint16")
    action = entities["#conversion"]
    assert action["verified"] is True
    assert json.loads(action["description"])["z"] == [1, 0]
    assert action["lost"] == "nothing"
    assert entities["#bfbridge"]["version"] == bfbridge.__version__
    found = verify_crate(tmp_path / name)
    assert (found.findings, found.pixels, found.valid) == ((), PIXELS.size, True)
    assert verify_crate(crate) == verify_crate(crate.parent) == found


def test_bytes_can_change_but_not_pixels(tmp_path: Path) -> None:
    target = tmp_path / "b.ome.zarr"
    convert(source_of(tmp_path), target, certify=True)
    (target / "notes.txt").write_text("a")
    assert codes(target) == [("warning", "crate-bytes")]
    assert verify_crate(target).valid
    with BioWriter(target, append=True) as bw:
        bw[3:4, 5:6, 1:2, 2:3, 1:2] = np.uint16(7)
    assert codes(target) == [("error", "crate-pixels")]


def test_changed_and_missing_files(tmp_path: Path) -> None:
    source, target = source_of(tmp_path), tmp_path / "b.ome.tif"
    convert(source, target, certify=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    source.rename(elsewhere / source.name)
    assert codes(target) == [("note", "crate-source-missing")]
    assert verify_crate(target).valid
    assert codes(target, sources=elsewhere) == []
    data = bytearray((elsewhere / source.name).read_bytes())
    data[-1] ^= 1
    source.write_bytes(data)
    assert codes(target) == [("error", "crate-source")]
    source.unlink()
    # Another image under the name: other sizes.
    imwrite(target, PIXELS[:, :2], axes="TCZYX", overwrite=True)
    assert codes(target)[0] == ("error", "crate-pixels")
    target.write_bytes(target.read_bytes()[:200])
    assert codes(target)[0] == ("error", "crate-pixels")
    target.unlink()
    crate = tmp_path / "b.ome.tif.crate"
    assert codes(crate)[0] == ("error", "crate-target-missing")
    with pytest.raises(FileMissing, match="no certificate"):
        verify_crate(tmp_path / "other.ome.tif")
    with pytest.raises(BadArgument, match="on a disk"):
        verify_crate("https://example.org/a.crate")


def without(key: str, identifier: str) -> Callable[[dict[str, Any]], Any]:
    def change(content: dict[str, Any]) -> None:
        for entity in content["@graph"]:
            if entity["@id"] == identifier:
                del entity[key]

    return change


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], Any]:
    def change(content: dict[str, Any]) -> Any:
        return json.loads(json.dumps(content).replace(old, new))

    return change


def test_damaged_crates(tmp_path: Path) -> None:
    target = tmp_path / "b.ome.tif"
    convert(source_of(tmp_path), target, certify=True)
    crate = tmp_path / "b.ome.tif.crate/ro-crate-metadata.json"
    whole = crate.read_text()
    changes = [
        without("result", "#conversion"), without("sha256", "../b.ome.tif"),
        without("pixelSha256", "#image-0"), without("conformsTo", "ro-crate-metadata.json"),
        lambda content: content["@graph"].clear(), lambda content: {"@context": 1},
        lambda content: content["@graph"].append(content["@graph"][0]),
        renamed("../b.ome.tif", "../../b.ome.tif"), renamed("../b.ome.tif", ".."),
        renamed("#image-0", 7 * "x"),
        renamed("file:///", "https://"), renamed("file:///", "file://%00/"), lambda content: [],
    ]  # fmt: skip
    damaged = 0
    for change in changes:
        content = json.loads(whole)
        changed = change(content)
        crate.write_text(json.dumps(content if changed is None else changed))
        found = codes(target)
        assert found in ([("error", "crate-document")], [])
        damaged += bool(found)
    # Identifiers of images do not matter.
    assert damaged == len(changes) - 1
    for text in ("", "{", whole[:-9], "[" * 99999):
        crate.write_text(text)
        (finding,) = verify_crate(target).findings
        assert finding.code == "crate-document"
        assert "damaged" in finding.message


# ---- what is refused


def test_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    with pytest.raises(BadArgument, match=r"--certify.*on a disk"):
        convert(source.read_bytes(), tmp_path / "b.ome.tif", certify=True)
    with pytest.raises(BadArgument, match="must be on a disk"):
        convert(source, "memory://b.ome.zarr", certify=True)
    assert os.listdir(tmp_path) == [source.name]
    convert(source, tmp_path / "b.ome.tif", certify=True)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(TargetExists, match="certificate already"):
        convert(source, tmp_path / "b.ome.tif", certify=True)
    assert not (tmp_path / "b.ome.tif").exists()
    convert(source, tmp_path / "b.ome.tif", certify=True, overwrite=True)
    assert verify_crate(tmp_path / "b.ome.tif").valid


def test_source_that_changes_is_not_certified(tmp_path: Path) -> None:
    source = source_of(tmp_path)

    def touch(done: int, total: int) -> None:
        if done == total:
            os.utime(source, ns=(1, 1))

    with pytest.raises(FileChanged, match="changed during the conversion"):
        convert(source, tmp_path / "b.ome.tif", certify=True, progress=touch)
    assert not (tmp_path / "b.ome.tif.crate").exists()


# ---- batches, and the command


def test_every_file_of_a_batch_has_a_crate(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source_of(folder)
    imwrite(folder / "s.ome.zarr", PIXELS, axes="TCZYX")
    options: dict[str, Any] = {"certify": True, "split": "c", "group": False}
    done = convert_many(folder, tmp_path / "out", **options)
    outputs = [output for record in done.files for output in record.outputs]
    assert len(outputs) == 6
    assert all(verify_crate(o.target).findings == () for o in outputs)
    crate = tmp_path / "out/s_c1.ome.tif.crate/ro-crate-metadata.json"
    others = {p: p.read_bytes() for p in tmp_path.rglob("ro-crate-*.json") if p != crate}
    crate.unlink()
    done = convert_many(folder, tmp_path / "out", resume=True, **options)
    assert {record.status for record in done.files} == {"kept"}
    assert verify_crate(crate).valid
    assert len(others) == 5
    assert all(path.read_bytes() == data for path, data in others.items())


@pytest.mark.slow(ci=True)
def test_on_a_cluster(tmp_path: Path) -> None:
    """One image by regions, and a batch by files, whose pixels the workers write."""
    distributed = pytest.importorskip("distributed")
    folder = tmp_path / "in"
    folder.mkdir()
    source = source_of(folder)
    imwrite(folder / "s.ome.zarr", PIXELS, axes="TCZYX")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        convert(source, tmp_path / "b.ome.zarr", certify=True, client=client, chunks=16)
        done = convert_many(folder, tmp_path / "out", certify=True, client=client)
    targets = [tmp_path / "b.ome.zarr"]
    targets += [Path(output.target) for record in done.files for output in record.outputs]
    assert len(targets) == 3
    for target in targets:
        found = verify_crate(target)
        assert (found.findings, found.pixels, found.valid) == ((), PIXELS.size, True)
        crate = json.loads(Path(f"{target}.crate/ro-crate-metadata.json").read_text())
        (image,) = (e for e in crate["@graph"] if e["@id"] == "#image-0")
        assert image["pixelSha256"] == canonical(PIXELS)


def test_command(tmp_path: Path, run: Run) -> None:
    source, target = source_of(tmp_path), tmp_path / "b.ome.tif"
    done = run("convert", source, target, "--certify")
    assert done.code == 0
    assert f"certificate: {target}.crate" in done.out
    done = run("verify", target)
    assert done.code == 0
    assert "verified, 24,000 pixels compared" in done.out
    done = run("verify", f"{target}.crate", "--json")
    assert json.loads(done.out)["valid"] is True
    source.write_bytes(b"")
    done = run("verify", target)
    assert done.code == 1
    assert "error:" in done.out
    assert "not verified" in done.out
    done = run("verify", tmp_path / "c.ome.tif")
    assert done.code == 1
    assert "no certificate" in done.err
