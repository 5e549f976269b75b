"""The C ABI as Python objects (see cpp/core.cc). Private: use the names that `attn` exports."""

from typing import NoReturn, Optional, Sequence, Tuple, Union

VERSION: str
DTYPES: dict[str, int]
SLOTS: dict[str, int]
ALIGNMENTS: dict[str, int]
ACTIVATIONS: dict[str, int]
GATES: dict[str, int]
BIAS_STAGES: dict[str, int]
TABLE_KINDS: dict[str, int]
ROPE_LAYOUTS: dict[str, int]
ROPE_SOURCES: dict[str, int]
PRECISIONS: dict[str, int]
FLAGS: dict[str, int]
DEVICES: dict[str, int]
DECAYS: dict[str, int]
DECAY_FORMS: dict[str, int]
UPDATES: dict[str, int]
FEATURE_MAPS: dict[str, int]
STATE_LAYOUTS: dict[str, int]
LINEAR_FLAGS: dict[str, int]
CONV_ACTIVATIONS: dict[str, int]
SCAN_FORMS: dict[str, int]
SCAN_FLAGS: dict[str, int]
MASK_OPS: dict[str, int]
UNBOUNDED: int
V_ALIASES_K: int
WINDOW_LEFT: int
WINDOW_RIGHT: int
BROADCAST_AXIS0: int
ABSENT: int

class Error(RuntimeError):
    status: int
    status_name: str

class Tensor:
    def __init__(
        self,
        object: object,
        name: str,
        writable: bool = ...,
        dtype: int = ...,
        device: int = ...,
        device_id: int = ...,
        stream: int = ...,
    ) -> None: ...
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
    flags: int
    precision: int
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
    def bind(self, slot: int, dtype: int, flags: int, index: int = ...) -> None: ...

class Dense:
    flags: int
    causal: int
    align: int
    window_left: int
    window_right: int
    sink_tokens: int
    softcap: float
    activation: int
    activation_bias: float
    activation_length: int
    bias_stage: int
    bias_rank: int
    gate: int
    def set_bias_table(
        self, kind: int, bidirectional: bool, buckets: int, max_distance: int, grid: Sequence[int]
    ) -> None: ...
    def set_mask(
        self,
        terms: Sequence[Tuple[int, int, int, int, Sequence[int], float]],
        tables: Sequence[Tuple[int, int, Sequence[float], Sequence[float]]],
    ) -> None: ...

class Merge:
    parts: int
    activation: int
    gate: int

class Append:
    ring_rows: int
    sink_tokens: int
    def set_rope(self, layout: int, source: int, dim: int, first: int, base: float) -> None: ...

class Linear:
    flags: int
    decay: int
    decay_form: int
    update: int
    read: int
    feature_map: int
    state_layout: int
    state_keep: int
    state_dtype: int
    chunk: int
    decay_lower_bound: float
    decay_scale: float
    normaliser_eps: float

class Conv:
    width: int
    activation: int
    state_dtype: int

class Scan:
    flags: int
    form: int
    state_dtype: int

class Plan:
    def __init__(
        self, handle: Handle, problem: Problem, descriptor: Union[Dense, Merge, Append, Linear, Conv, Scan]
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def describe(self) -> str: ...
    def workspace_for(self, sizes: Optional[Tuple[int, int, int, int, int]]) -> int: ...
    def slots(self) -> dict[int, Tuple[int, Sequence[int]]]: ...
    def execute(
        self,
        tensors: Sequence[Tuple[int, int, Tensor]],
        sizes: Optional[Tuple[int, int, int, int, int]] = ...,
    ) -> None: ...
    def launch(
        self, tensors: Sequence[Tuple[int, int, Tensor]], stream: int, workspace: int, bytes: int
    ) -> None: ...

def save_states(problem: Problem, descriptor: Linear, state: Tensor, tokens: int) -> bytes: ...
def load_states(problem: Problem, descriptor: Linear, saved: bytes, state: Tensor) -> int: ...
def copy_states(source: Tensor, source_layout: int, target: Tensor, target_layout: int) -> None: ...
def inspect_states(saved: bytes) -> dict[str, int]: ...
class Scratch:
    def __init__(self, bytes: int, device_id: int, stream: int) -> None: ...
    @property
    def address(self) -> int: ...

def devices(device: int) -> list[dict[str, object]]: ...
def device_of(address: int) -> int: ...
def synchronize(device_id: int, stream: int) -> None: ...
def read(address: int, bytes: int, device_id: int, stream: int) -> bytes: ...
def raise_error(status: int, message: str) -> NoReturn: ...
