"""Documents packed into one row, with windows that differ by head, checked against the definition."""

import attn
import numpy as np

rng = np.random.default_rng(1)
q, k, v = rng.standard_normal((3, 1, 80, 4, 16), dtype=np.float32)

# [mask]
document = np.repeat(np.arange(4, dtype=np.int32), 20)[None]  # [batch, token]
windows = attn.mask.band([3, 7, 15, None], 0, "top_left")  # keys before the query's, by head
out = attn.attention(q, k, v, mask=attn.mask.id_eq() & windows, ids_q=document, ids_kv=document)
# [mask]

i, j = np.arange(80)[:, None], np.arange(80)
limits = np.array([3, 7, 15, 80])[:, None, None]
visible = (i // 20 == j // 20) & (j <= i) & (i - j <= limits)
scores = np.where(visible, np.einsum("ihc,jhc->hij", q[0].astype(float), k[0]) / 4, -np.inf)
weights = np.exp(scores)
expected = np.einsum("hij,jhc->ihc", weights / weights.sum(-1, keepdims=True), v[0])
np.testing.assert_allclose(out[0], expected, atol=1e-5)
print("as the definition says")
