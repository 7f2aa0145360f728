"""jars/NOTICE.md names the works in the jar of Bio-Formats, as the Maven files in it state them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bfbridge.errors import JarNotFound
from bfbridge_bioformats.jars.locate import find_jar

NOTICE = Path(__file__).parents[2] / "jars" / "NOTICE.md"
# Licences as the Maven files spell them, and their names in the table.
SPDX = {
    "Apache": "Apache-2.0",
    "3-Clause BSD": "BSD-3-Clause",
    "Simplified BSD": "BSD-2-Clause",
    "Public Domain": "public domain",
    "GNU General Public License v2": "GPL-2.0-or-later",
    "GNU Lesser General Public License v2.1": "LGPL-2.1-or-later",
    "Creative Commons Attribution 3.0": "CC-BY-3.0",
}


def rows() -> list[str]:
    return [line for line in NOTICE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]


def works() -> list[tuple[str, str, list[str], str]]:
    """Return each work with Maven files in the pinned jar.

    The tuples are (artifact, version, licences, where the Maven file states the licence).
    """
    try:
        jar = find_jar()
    except JarNotFound:
        pytest.skip("there is no jar of Bio-Formats")
    (path, *others) = jar.paths
    if others or jar.version != "7.3.1":
        pytest.skip("the table has the versions of Bio-Formats 7.3.1")
    found = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith("/pom.properties"):
                continue
            text = archive.read(name).decode()
            version = re.search(r"^version=(\S+)", text, re.MULTILINE)[1]
            pom = archive.read(name.replace("properties", "xml"))
            root = ET.fromstring(pom)
            licences = [each.text for each in root.iterfind("{*}licenses/{*}license/{*}name")]
            header = b"www.apache.org/licenses/LICENSE-2.0" in pom.partition(b"<project")[0]
            where = "Maven file" if licences else "Maven file header" if header else "no"
            found.append((name.split("/")[-2], version, licences, where))
    return found


def test_every_work_in_the_jar_is_listed_with_its_version_and_licence():
    table = rows()
    found = works()
    assert len(found) == 46
    for artifact, version, licences, where in found:
        of_version = [row for row in table if version in re.split(r"[ ,|]+", row)]
        assert of_version, f"{artifact} {version} is not in NOTICE.md"
        for licence in licences:
            (name,) = [SPDX[each] for each in SPDX if each in licence]
            assert any(name in row for row in of_version), f"{artifact} {version}: {licence}"
        stated = [re.split("[;,]", row.split("|")[4])[0].strip() for row in of_version]
        assert where in stated, f"{artifact} {version}: {where}"
        if where == "Maven file header":
            assert any("Apache-2.0" in row for row in of_version), artifact
