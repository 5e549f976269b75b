"""Attention on NumPy arrays, once and with a plan, checked against the definition."""

# [call]
import attn
import numpy as np

rng = np.random.default_rng(1)
q = rng.standard_normal((2, 96, 8, 64), dtype=np.float32)  # batch, token, head, channel
k = rng.standard_normal((2, 96, 2, 64), dtype=np.float32)  # four query heads share a key head
v = rng.standard_normal((2, 96, 2, 64), dtype=np.float32)

out, lse = attn.attention(
    q, k, v, causal="bottom_right", window=(31, 0), sink_tokens=4, return_lse=True
)
# [call]

# [plan]
plan = attn.Plan(
    q_dtype="float32",
    batch=2,
    heads_q=8,
    heads_k=2,
    dim_qk=64,
    max_q=96,
    causal="bottom_right",
    window=(31, 0),
    sink_tokens=4,
)
again = plan(q, k, v)
# [plan]

# [error]
try:
    attn.attention(q, k, v, causal="bottom_right", softcap=-1)
except attn.Error as error:
    print(error.status_name, error)
    assert error.status_name == "ATTN_ERROR_INVALID" and "attn_dense.softcap = -1" in str(error)
else:
    raise AssertionError("a negative softcap was accepted")
# [error]

i, j = np.arange(96)[:, None], np.arange(96)
visible = (j <= i) & ((j > i - 32) | (j < 4))
scores = np.einsum("bihc,bjhc->bhij", q.astype(float), np.repeat(k, 4, axis=2)) / np.sqrt(64)
weights = np.exp(np.where(visible, scores, -np.inf))
expected = np.einsum("bhij,bjhc->bihc", weights / weights.sum(-1, keepdims=True), np.repeat(v, 4, axis=2))
np.testing.assert_allclose(out, expected, atol=1e-5)
np.testing.assert_allclose(lse, np.log(weights.sum(-1)), atol=1e-5)
np.testing.assert_array_equal(again, out)
print("as the definition says")
