"""Memory of many opens through Java: the resident set does not grow after the first 200."""

from __future__ import annotations

from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc/self/status")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("damaged", [False, True], ids=["sound", "damaged"])
def test_opens_through_java_keep_no_memory(program, tmp_path: Path, damaged: bool) -> None:
    # Java's own heap grows until it is collected: it is bounded, so that the rest shows.
    out = program.run(
        f"""
        import random
        import tifffile

        backend.start(heap="64m")
        path = {str(tmp_path / "a.tif")!r}
        tifffile.imwrite(path, np.arange(96 * 80, dtype="u2").reshape(96, 80))
        with open(path, "rb") as file:
            sound = file.read()
        chance = random.Random(38)

        def resident():
            with open("/proc/self/status") as file:
                line = next(line for line in file if line.startswith("VmRSS"))
            return int(line.split()[1]) / 1024

        ends = set()
        for number in range(1001):
            if number in (400, 1000):
                print(resident())
            if {damaged}:
                changed = bytearray(sound)
                for _ in range(3):
                    changed[chance.randrange(200)] ^= 1 << chance.randrange(8)
                with open(path, "wb") as file:
                    file.write(changed)
            try:
                reader = open_(path)
                try:
                    if reader.images[0].levels[0].shape == (1, 1, 1, 96, 80):
                        read(reader)
                finally:
                    reader.close()
                ends.add("read")
            except BfbridgeError as error:
                ends.add(type(error).__name__)
        print(len(ends))
        """,
        timeout=500,
    )
    early, late, ends = map(float, out.split())
    assert (ends > 2) == damaged
    assert late - early < 30, out
