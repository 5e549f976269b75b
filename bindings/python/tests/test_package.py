"""The installed package: what it bundles, what it checks at import, and its types."""

import doctest
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import attn

FOLDER = Path(attn.__file__).parent
LIBRARY = FOLDER / "libattn-python.so.0"
EXTENSION = Path(attn._core.__file__)


def python(code, path):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True
    )


def test_files():
    assert LIBRARY.is_file() and EXTENSION.parent == FOLDER
    assert (FOLDER / "py.typed").is_file() and (FOLDER / "_core.pyi").is_file()
    assert not list(FOLDER.glob("libattn.so*"))


def test_private_names():
    assert b"libattn-python.so.0\0" in LIBRARY.read_bytes() and b"libattn-python.so.0\0" in EXTENSION.read_bytes()
    assert b"ATTN_PYTHON_0\0" in EXTENSION.read_bytes() and b"ATTN_0\0" not in EXTENSION.read_bytes()
    if sys.platform == "linux":
        lines = Path("/proc/self/maps").read_text().splitlines()
        files = {Path(line.split()[-1]) for line in lines}
        mapped = {file for file in files if file.name.startswith("libattn")}
        assert mapped == {LIBRARY.resolve()}


def fake_library(target, version, soname="libattn-python.so.0", node="ATTN_PYTHON_0"):
    """A library that has every function that the extension needs, and another version."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler to make a library of another version")
    names = set(re.findall(rb"\0(attn_[a-z_]+)(?=\0)", EXTENSION.read_bytes())) - {b"attn_version"}
    source = target.with_suffix(".c")
    text = f"unsigned attn_version(void) {{ return {version}; }}\n"
    text += "".join(f"int {name.decode()}(void) {{ return 0; }}\n" for name in sorted(names))
    source.write_text(text)
    script = target.with_suffix(".map")
    script.write_text(f"{node} {{ global: attn_*; local: *; }};\n")
    link = f"-Wl,-soname,{soname},--version-script={script}"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", target, source, link], check=True)


def test_version_mismatch(tmp_path):
    copy = tmp_path / "attn"
    shutil.copytree(FOLDER, copy)
    (copy / LIBRARY.name).unlink()
    fake_library(copy / LIBRARY.name, 0x070809)
    result = python("import attn", tmp_path)
    assert result.returncode == 1
    assert f"ImportError: attn was built for libattn {attn.__version__}" in result.stderr
    assert "libattn-python.so.0 is 7.8.9" in result.stderr


def test_other_libattn_in_the_process(tmp_path):
    """An application's own libattn.so.0, loaded before and globally, is not what the package calls."""
    fake_library(tmp_path / "libattn.so.0", 0x070809, "libattn.so.0", "ATTN_0")
    code = f"import ctypes; ctypes.CDLL({str(tmp_path / 'libattn.so.0')!r}, ctypes.RTLD_GLOBAL); import attn;" \
           "import numpy as np; x = np.ones((1, 2, 1, 4), 'f4'); print(attn.attention(x, x, x).sum())"  # fmt: skip
    result = python(code, FOLDER.parent)
    assert result.stdout == "8.0\n", result.stderr


@pytest.mark.parametrize("function", [attn.attention, attn.merge, attn.append])
def test_examples(function):
    tests = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={})
    assert len(tests) == 1 and tests[0].examples
    assert doctest.DocTestRunner().run(tests[0]).failed == 0


def test_everything_is_documented():
    for name in attn.__all__:
        assert name == "__version__" or getattr(attn, name).__doc__


def test_types(tmp_path):
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed (pip install attn[test])")
    user = tmp_path / "user.py"
    user.write_text(
        "from typing import Any\n"
        "import numpy as np\n"
        "import numpy.typing as npt\n"
        "import attn\n"
        "Array = npt.NDArray[np.float32]\n"
        "x: Array = np.ones((1, 2, 1, 4), np.float32)\n"
        "one: Array = attn.attention(x, x, x, causal='top_left', window=(1, None))\n"
        "two: tuple[Array, Array] = attn.attention(x, x, x, return_lse=True)\n"
        "plan = attn.Plan(heads_q=1, dim_qk=4, max_q=2, handle=attn.Handle(threads=1))\n"
        "size: int = plan.workspace_bytes\n"
        "facts: dict[str, Any] = plan.describe()\n"
        "names: list[str] = [device.name for device in attn.devices()]\n"
        "try:\n"
        "    plan(x, x, x)\n"
        "except attn.Error as error:\n"
        "    status: int = error.status\n"
        "attn.attention(x, x, x, causal='diagonal')  # type: ignore[call-overload]\n"
        "attn.attention(x, x, x, gait=x)  # type: ignore[call-overload]\n"
        "lookup = attn.BiasLookup('bucket', bidirectional=True)\n"
        "three: tuple[Array, ...] = attn.attention(x, x, outputs=['lse', 'row_max'], dim_v=2, bias_lookup=lookup)\n"
        "gated: Array = attn.attention(x, x, x, gate=x, gate_kind='silu', sink_logits=x, flags=['checked'])\n"
        "attn.Plan(heads_q=1, dim_qk=4, max_q=2, inputs={'bias': attn.Input('float16', [0])}, activation='relu')\n"
        "attn.Plan(heads_q=1, dim_qk=4, max_q=2, gate_kind='tanh')  # type: ignore[arg-type]\n"
        "plan(x, x, x, bias=x, row_max=x)\n"
        "plan(x, x, x, mask=x)  # type: ignore[call-arg]\n"
        "joined: Array = attn.merge([x, x], [x, x], gate=x)\n"
        "with_lse: tuple[Array, Array] = attn.merge([x, x], [x, x], return_lse=True)\n"
        "attn.append(x, x, x, x, seqlens_kv=x, ring_rows=2, stream=None)\n"
        "device: str = attn.Handle(device='cpu').device\n"
        "rotated: Array = attn.append(x, x, x, x, q=x, rope=attn.Rope('interleaved'))\n"
        "attn.AppendPlan(heads_k=1, dim_qk=4, max_q=1, max_kv=8)(x, x, x, x, q=x)\n"
        "attn.MergePlan(parts=2, heads=1, dim_v=4, max_q=2, outputs=['lse'])([x, x], [x, x])\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]
    for target in ([user], ["-p", "attn"]):
        result = subprocess.run([*command, *target], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
