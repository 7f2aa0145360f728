"""Project files state the same facts: versions, Pythons, scripts, and the tags of releases."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import bfbridge

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(name: str) -> dict:
    path = ROOT / ".github" / "workflows" / name
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def pythons() -> list[str]:
    pattern = r"Programming Language :: Python :: (3\.\d+)"
    found = [re.fullmatch(pattern, line) for line in PROJECT["classifiers"]]
    return [match[1] for match in found if match]


def test_the_workflow_runs_the_oldest_and_the_newest_python_on_three_systems():
    matrix = jobs("ci.yml")["tests"]["strategy"]["matrix"]
    assert matrix["python"] == [pythons()[0], pythons()[-1]]
    assert pythons()[0] == PROJECT["requires-python"].removeprefix(">=")
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    tested = {*matrix["python"], *(each["python"] for each in matrix["include"])}
    assert tested == set(pythons())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_scripts_that_are_there(path):
    text = path.read_text(encoding="utf-8")
    scripts = set(re.findall(r"(?:bash|python) (\.ci/\S+)", text))
    assert scripts
    assert [name for name in scripts if not (ROOT / name).is_file()] == []


def test_readme_commands_are_the_ones_of_the_workflow():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    steps = [step.get("run") for step in jobs("ci.yml")["tests"]["steps"]]
    install, test = [step for step in steps if step]
    assert f"{install} && {test}" in readme
    assert install in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_release_job_publishes_without_a_stored_secret():
    publish = jobs("release.yml")["publish"]
    assert publish["permissions"] == {"id-token": "write", "attestations": "write"}
    uses = [step["uses"].partition("@")[0] for step in publish["steps"]]
    assert "actions/attest-build-provenance" in uses
    assert uses[-1] == "pypa/gh-action-pypi-publish"
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def test_the_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == bfbridge.__version__
    assert citation["license"] == PROJECT["license"]


@pytest.fixture
def check_tag(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("check_tag", ROOT / ".ci" / "check_tag.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tag_names_what_is_released(check_tag):
    assert check_tag.main(f"v{bfbridge.__version__}") == "."
    assert check_tag.main(f"jar-v{check_tag.jar_version()}") == "jars"


@pytest.mark.parametrize("tag", ["v99.0", "jar-v99.0", "0.1.0", "main"])
def test_a_tag_of_another_version_releases_nothing(check_tag, tag):
    with pytest.raises(SystemExit, match=f"the tag is {tag}; the sources have the versions v"):
        check_tag.main(tag)


def test_issue_templates_ask_for_the_diagnosis():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    for name in ("bug.yml", "pixels.yml"):
        template = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        labels = [item["attributes"].get("label", "") for item in template["body"]]
        assert "Output of `bfbridge doctor --json`" in labels
