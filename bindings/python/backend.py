"""The build backend: scikit-build-core's, with sdists that carry the sources of the library.

The library lies around this folder in the repository, where an sdist cannot reach. So the sdist is made in a copy of
this folder that has the library in libattn/, which is where CMakeLists.txt looks first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Optional

from scikit_build_core import build
from scikit_build_core.build import *  # noqa: F403 (the other hooks)

_LIBRARY = ("CMakeLists.txt", "LICENSE", "backends", "cmake", "include", "src")
_IGNORED = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist")


def build_sdist(sdist_directory: str, config_settings: Optional[dict[str, list[str] | str]] = None) -> str:
    here = Path.cwd()
    if (here / "libattn").is_dir():  # an unpacked sdist
        return build.build_sdist(sdist_directory, config_settings)
    target = os.path.abspath(sdist_directory)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "python"
        shutil.copytree(here, copy, ignore=_IGNORED)
        (copy / "libattn").mkdir()
        for name in _LIBRARY:
            source = here.parent.parent / name
            if source.is_dir():
                shutil.copytree(source, copy / "libattn" / name, ignore=_IGNORED)
            else:
                shutil.copy(source, copy / "libattn" / name)
        os.chdir(copy)
        try:
            return build.build_sdist(target, config_settings)
        finally:
            os.chdir(here)
