"""The C ABI as Python objects (see cpp/core.cc). Private: use the names that `attn` exports."""

from typing import Optional, Sequence, Tuple

VERSION: str
DTYPES: dict[str, int]
SLOTS: dict[str, int]
ALIGNMENTS: dict[str, int]
DEVICES: dict[str, int]
WINDOW_LEFT: int
WINDOW_RIGHT: int

class Error(RuntimeError):
    status: int
    status_name: str

class Tensor:
    def __init__(self, object: object, name: str, writable: bool = ..., dtype: int = ...) -> None: ...
    @property
    def shape(self) -> Tuple[int, ...]: ...
    @property
    def strides(self) -> Tuple[int, ...]: ...
    @property
    def dtype(self) -> int: ...
    @property
    def ndim(self) -> int: ...
    @property
    def readonly(self) -> bool: ...
    def swap_axes(self, a: int, b: int) -> None: ...
    def largest_step(self) -> int: ...

class Handle:
    def __init__(self, threads: int, device: int, device_id: int) -> None: ...

class Problem:
    q_dtype: int
    k_dtype: int
    v_dtype: int
    out_dtype: int
    batch: int
    heads_q: int
    heads_k: int
    heads_v: int
    dim_qk: int
    dim_v: int
    max_q: int
    max_kv: int
    total_q: int
    total_kv: int
    page_size: int
    scale: float
    def bind(self, slot: int, dtype: int) -> None: ...

class Dense:
    flags: int
    causal: int
    align: int
    window_left: int
    window_right: int
    sink_tokens: int
    softcap: float

class Plan:
    def __init__(self, handle: Handle, problem: Problem, dense: Dense) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def describe(self) -> str: ...
    def slots(self) -> dict[int, Tuple[int, Sequence[int]]]: ...
    def execute(
        self,
        tensors: Sequence[Tuple[int, Tensor]],
        sizes: Optional[Tuple[int, int, int, int, int]] = ...,
    ) -> None: ...

def devices(device: int) -> list[dict[str, object]]: ...
