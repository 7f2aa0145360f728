"""Formats recognised by the first bytes and the name of a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bfbridge.storage.source import Source

__all__ = [
    "IMAGE_SUFFIXES",
    "PICTURE_MAGIC",
    "PICTURE_SUFFIXES",
    "TIFF_MAGIC",
    "ZARR_KEYS",
    "is_anything",
    "is_companion",
    "is_lif",
    "is_picture",
    "is_tiff",
    "is_zarr",
]

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# GIF, PNG, JPEG, JPEG 2000 in a box and as a code stream.
PICTURE_MAGIC = (
    b"GIF87a", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff",
    b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",
)  # fmt: skip
# Pictures compressed with gzip or bzip2, whose own first bytes are not visible.
PICTURE_SUFFIXES = (
    ".gif", ".png", ".bmp", ".tga", ".jpg", ".jpeg", ".jpe", ".jp2", ".j2k", ".webp", ".pbm",
    ".pgm", ".ppm", ".pam",
)  # fmt: skip
IMAGE_SUFFIXES = tuple(
    """
1sc 2fl acff afi afm aim aisf al3d ali am amiramesh ano apl arf atsf avi bif bin bip bmp btf c01 ch5
cif companion.ome cr2 crw cxd czi dat db dcm df3 dib dic dicom dm2 dm3 dm4 dti dv eps epsi ets exp
fdf fff ffr fits flex fli frm fts gel gif grey h5 hdf hdr hed his htd hx i2i ics ids im3 ima img ims
inr ipl ipm ips ipw j2k j2ki j2kr jp2 jpe jpeg jpf jpg jpk jpx klb l2d labels lei lif liff lim lms
lof lsm map mea mnc mng mod mov mrc mrcs mrw msr mtb mvd2 naf nd nd2 ndpi ndpis nef nhdr nii nii.gz
nrrd obf oib oif oir ome ome.btf ome.tf2 ome.tf8 ome.tif ome.tiff ome.xml ome.zarr omp2info ozx pam
par pattern pbm pcoraw pct pcx pgm pic pict png pnl pnm ppm pr3 ps psd pst pty qptiff r3d r3d_d3d
raw rcpnl rec res scan scn sdt seq sif sld sldy sm2 sm3 spc spe spi spl st stk stp svs sxm tf2 tf8
tfr tga thm tif tiff tim tnb top v vff vms vsi vws wat webp wpi xdce xlef xqd xqf xv xys zarr
zarr.zip zfp zfr zip zpo zvi
    """.split()  # noqa: SIM905 - read as lines of text
)
"""Suffixes of images in any format that is read, without the first dot.

Some belong to other kinds of files as well.
"""
# Possible lengths of the second header of a BMP file.
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
ZARR_KEYS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def is_zarr(source: Source, head: bytes) -> bool:
    """Whether a source is a Zarr store, or a ZIP file that may be one."""
    if head[:4] == b"PK\x03\x04":
        return source.filename.lower().endswith((".zip", ".ozx"))
    # Web servers and object stores may not know folders; their content is checked instead.
    folder = source.is_dir() or (source.url is not None and ".zarr" in source.name.lower())
    return folder and any(source.child(key).exists() for key in ZARR_KEYS)


def is_tiff(source: Source, head: bytes) -> bool:
    """Whether a source is a TIFF or BigTIFF."""
    del source
    # The first 128 bytes of DICOM are arbitrary; some writers put a TIFF header there.
    return head[:4] in TIFF_MAGIC and head[128:132] != b"DICM"


def is_lif(source: Source, head: bytes) -> bool:
    """Whether a source is a Leica LIF."""
    del source
    # A block (0x70) that begins with a text (0x2a).
    return head[:4] == b"p\0\0\0" and head[8:9] == b"*"


def is_companion(source: Source, head: bytes) -> bool:
    """Whether a source is the companion document of OME-TIFF files."""
    return source.filename.lower().endswith(".companion.ome") and head.lstrip()[:1] == b"<"


def is_picture(source: Source, head: bytes) -> bool:
    """Whether a source has one of the picture formats."""
    if head[128:132] == b"DICM":
        return False
    stem, dot, packing = source.filename.lower().rpartition(".")
    if dot and packing in ("gz", "bz2"):
        return head[:2] in (b"\x1f\x8b", b"BZ") and stem.endswith(PICTURE_SUFFIXES)
    if head.startswith(PICTURE_MAGIC) or source.filename.lower().endswith(".tga"):
        return True
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    bmp = head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS
    pnm = head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3] in b" \t\r\n\v\f#"
    return webp or bmp or (pnm and len(head) > 8)


def is_anything(source: Source, head: bytes) -> bool:
    """Whether a source is a file."""
    del head
    return not source.is_dir()
