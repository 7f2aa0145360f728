r"""Run the benchmarks that the installed peers allow; write one JSON file and one Markdown table.

    python benchmarks/run.py --quick [--output FOLDER]
    python benchmarks/run.py --full --install

`--quick` runs the short scripts with few repeats, `--full` all of them. `--install` installs
bfbridge's extras and the peers into a virtual environment in the user's cache folder and runs the
scripts there. A script whose libraries are missing is listed as omitted, with its last message.
Run it on an otherwise idle machine: ratios are valid for one machine and one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = (
    "tensorstore", "zarrs", "zarr", "tifffile", "ome-zarr", "ngff-zarr", "bfio", "bioio-ome-zarr",
    "bioio-ome-tiff", "pyvips", "pyvips-binary", "large-image-source-tiff", "numcodecs",
    "imagecodecs", "isal", "numpy", "moto[s3]", "flask", "flask-cors", "s3fs",
)  # fmt: skip
# Script: its arguments for --quick (None: it is omitted), and for --full.
SCRIPTS: dict[str, tuple[list[str] | None, list[str]]] = {
    "bench_small_chunks.py": (["--repeats", "3"], ["--repeats", "7"]),
    "bench_face.py": ([], []),
    "bench_ometiff.py": (None, []),
    "bench_omezarr.py": (None, []),
    "bench_convert.py": (None, []),
    "bench_views.py": (None, []),
    "bench_bioformats.py": (None, []),
    "bench_vendors.py": (None, []),
}
SECONDS = 3600


def install() -> Path:
    """Return the Python of an environment with the peers, made in the cache folder if missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "bfbridge" / "benchmark-peers"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"{HERE.parent}[ometiff,omezarr]"], check=True)
    for name in PEERS:
        # A peer that does not install here is omitted, as its contenders are.
        subprocess.run([*pip, name], check=False)
    return python


def machine() -> dict[str, Any]:
    """Describe the machine."""
    model = platform.processor()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        names = [line for line in cpus.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {"system": platform.platform(), "processor": model, "cpus": os.cpu_count()}


def versions(python: str) -> dict[str, str]:
    """Return the versions of the peers that an interpreter has."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "found = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps({'python': sys.version.split()[0], **found}))"
    )
    names = [name.partition("[")[0] for name in PEERS]
    done = subprocess.run(
        [python, "-c", code, "bfbridge", *names], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def measured(python: str, script: str, arguments: list[str], rows: Path) -> str | None:
    """Run one script, which appends its tables to `rows`; return why it failed, or None."""
    env = {**os.environ, "BFBRIDGE_BENCHMARK_ROWS": str(rows)}
    print(f"== {script}", flush=True)
    try:
        done = subprocess.run(
            [python, str(HERE / script), *arguments],
            env=env, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it took more than {SECONDS} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def markdown(report: dict[str, Any]) -> str:
    """Return the report as tables."""
    about = report["machine"]
    lines = [
        f"{report['date']}: {about['processor']}, {about['cpus']} CPUs, {about['system']}.",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in report["versions"].items()) + ".",
    ]
    for table in report["tables"]:
        rows, base = table["rows"], table["rows"][table["against"]]["median"]
        columns = [k for k in next(iter(rows.values())) if k not in ("seconds", "median")]
        heads = ["", "median s", f"ratio to {table['against']}", *columns]
        lines += ["", f"**{table['title']}**", "", "| " + " | ".join(heads) + " |"]
        lines.append("|" + " --- |" * len(heads))
        for name, row in sorted(rows.items(), key=lambda item: item[1]["median"]):
            values = [name, f"{row['median']:.3g}", f"{row['median'] / base:.2f}"]
            values += ["" if row[k] is None else str(row[k]) for k in columns]
            lines.append("| " + " | ".join(values) + " |")
    lines += [f"\nOmitted: {script}: {why}" for script, why in report["omitted"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--quick", action="store_true")
    chosen.add_argument("--full", action="store_true")
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--output", type=Path, default=Path())
    parser.add_argument("--only", nargs="*", help="names of scripts")
    args = parser.parse_args()
    python = str(install()) if args.install else sys.executable
    omitted: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        tables: list[dict[str, Any]] = []
        for script, (quick, full) in SCRIPTS.items():
            arguments = quick if args.quick else full
            if arguments is None or (args.only and script not in args.only):
                continue
            rows = Path(folder, script)
            rows.touch()
            failed = measured(python, script, arguments, rows)
            if failed is not None:
                omitted[script] = failed
            command = " ".join(["python", f"benchmarks/{script}", *arguments])
            lines = rows.read_text(encoding="utf-8").splitlines()
            tables += [{**json.loads(line), "command": command} for line in lines]
    report = {
        "date": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions(python),
        "tables": tables, "omitted": omitted,
    }  # fmt: skip
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "benchmarks.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    (args.output / "benchmarks.md").write_text(markdown(report), encoding="utf-8")
    print(f"wrote {args.output / 'benchmarks.json'} and {args.output / 'benchmarks.md'}")


if __name__ == "__main__":
    main()
