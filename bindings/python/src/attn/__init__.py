"""libattn from Python: attention on NumPy, PyTorch, JAX and other arrays, without copying them.

`attention` computes; `merge` joins results over parts of the keys; `append` writes new rows into caches of K and V.
`linear_attention` is linear and recurrent attention (experimental), `recipes` its methods by name; `causal_conv` and
`gated_scan` are what their layers have besides.
`Plan`, `MergePlan` and `AppendPlan` do the same with their preparation done once; `mask` has what masks are made of;
`Handle` chooses threads and device; `devices` lists what there is; `Error` is what the library raises.
"""

from . import mask, recipes
from ._append import AppendPlan, append
from ._attention import attention
from ._core import VERSION as __version__
from ._core import Error
from ._handle import Device, Handle, devices
from ._linear import LinearMethod, linear_attention
from ._merge import MergePlan, merge
from ._options import BiasLookup, Input, Rope
from ._plan import Plan
from ._sequence import causal_conv, gated_scan

__all__ = [
    "AppendPlan",
    "BiasLookup",
    "Device",
    "Error",
    "Handle",
    "Input",
    "LinearMethod",
    "MergePlan",
    "Plan",
    "Rope",
    "__version__",
    "append",
    "attention",
    "causal_conv",
    "devices",
    "gated_scan",
    "linear_attention",
    "mask",
    "merge",
    "recipes",
]
