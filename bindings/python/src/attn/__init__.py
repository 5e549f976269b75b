"""libattn from Python: attention on NumPy, PyTorch, JAX and other arrays, without copying them.

`attention` computes; `Plan` does the same with its preparation done once; `Handle` chooses threads and device;
`devices` lists what there is; `Error` is what the library raises.
"""

from ._attention import Plan, attention
from ._core import VERSION as __version__
from ._core import Error
from ._handle import Device, Handle, devices

__all__ = ["Device", "Error", "Handle", "Plan", "__version__", "attention", "devices"]
