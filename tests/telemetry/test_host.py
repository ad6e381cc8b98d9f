from __future__ import annotations

import json
import platform
import sys

import pytest

from orchestrator.telemetry.host import host_provenance


def test_it_names_this_machine_and_goes_into_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = json.loads(json.dumps(host_provenance(), allow_nan=False))
    assert found["kernel"] == platform.release()
    assert found["cpu"]
    assert found["memory_bytes"] > 1 << 28
    assert found["packages"]["pyarrow"]
    assert (found["driver"], found["gpus"]) == (None, [])


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert host_provenance(["no-such-package"])["packages"] == {"no-such-package": None}
