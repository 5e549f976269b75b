"""The sdist: it has the sources of the library, so that it builds without the repository."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
ROOT = PROJECT.parent.parent


def test_sdist(tmp_path):
    pytest.importorskip("scikit_build_core", reason="it makes the sdist (pip install attn[test])")
    if not (ROOT / "include/attn/attn.h").is_file():
        pytest.skip("not in the repository")
    code = f"import sys; sys.path.insert(0, '.'); import backend; print(backend.build_sdist({str(tmp_path)!r}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with tarfile.open(tmp_path / result.stdout.split()[-1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
        prefix = sdist.getnames()[0].partition("/")[0]
        header = sdist.extractfile(f"{prefix}/libattn/include/attn/attn.h")
        assert header.read() == (ROOT / "include/attn/attn.h").read_bytes()
    assert {"PKG-INFO", "pyproject.toml", "CMakeLists.txt", "backend.py", "cpp/core.cc", "src/attn/py.typed"} <= names
    listed = re.findall(r"\b(?:src|backends)/[a-z0-9_/]+\.cc", (ROOT / "cmake/AttnTargets.cmake").read_text())
    assert len(listed) > 20
    paths = [*(ROOT / "src").rglob("*.h"), *(ROOT / "backends").rglob("*.h")]
    headers = [path.relative_to(ROOT).as_posix() for path in paths]
    for name in ["LICENSE", "CMakeLists.txt", "cmake/AttnTargets.cmake", "src/attn.map", *listed, *headers]:
        assert f"libattn/{name}" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".so", ".o"))]
