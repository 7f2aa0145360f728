import os
from collections.abc import Iterator

import pytest

from tests.support.faults import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    process = Zygote()
    yield process
    process.close()
