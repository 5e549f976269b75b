"""The recipes of linear attention in Python, as the documentation shows them."""

import numpy as np

import attn
from attn import recipes

B, T, H, C = 2, 40, 2, 16
rng = np.random.default_rng(0)
q, k, v, gate = rng.standard_normal((4, B, T, H, C), np.float32)
beta = rng.random((B, T, H), np.float32)
dt, a_log, dt_bias = rng.standard_normal((B, T, H), np.float32), np.zeros(H, np.float32), np.zeros(H, np.float32)
dt_bias_by_channel, u = np.zeros((H, C), np.float32), np.ones((H, C), np.float32)
feature_q, feature_k = rng.standard_normal((2, H, C, C + 1), np.float32)
kk = k / np.linalg.norm(k, axis=-1, keepdims=True)
forget = 1 / (1 + np.exp(-gate))
decay, a = -0.6 * forget, forget

# [linear]
out = recipes.linear(q, k, v)
# [linear]
assert out.shape == v.shape
# [based]
out = recipes.based(q, k, v)
# [based]
# [hedgehog]
out = recipes.hedgehog(q, k, v, feature_q, feature_k)
# [hedgehog]
# [retnet]
out = recipes.retnet(q, k, v)
# [retnet]
# [lightning]
out = recipes.lightning(q, k, v, recipes.lightning_decay(heads=H, layer=3, layers=12))
# [lightning]
# [mamba2]
out = recipes.mamba2(q, k, v, dt, a_log, dt_bias)  # C, B, x
# [mamba2]
# [gla]
out = recipes.gla(q, k, v, gate)
# [gla]
# [hgrn2]
out = recipes.hgrn2(q, forget, v)
# [hgrn2]
# [rwkv6]
out = recipes.rwkv6(q, k, v, gate, u)
# [rwkv6]
# [rwkv7]
out = recipes.rwkv7(q, decay, k, v, kk, a)
# [rwkv7]
# [deltanet]
out = recipes.deltanet(q, k, v, beta)
# [deltanet]
# [gated_deltanet]
out = recipes.gated_deltanet(q, k, v, dt, beta, a_log, dt_bias)
# [gated_deltanet]
# [kda]
out = recipes.kda(q, k, v, gate, beta, a_log, dt_bias_by_channel, safe=True)
# [kda]
# [inline]
out = recipes.inline(q, k, v)
# [inline]
agents = q[:, ::8].copy()
# [agent]
out = recipes.agent(q, k, v, agents)
# [agent]
# [rat]
out = recipes.rat(q, k, v, forget, chunk=16)
# [rat]

weight, bias = rng.standard_normal((H, C, 4), np.float32), np.zeros((H, C), np.float32)
# [conv]
k, state = attn.causal_conv(k, weight, bias, activation="silu", return_state=True)  # a prompt
step = rng.standard_normal((B, 1, H, C), np.float32)
key = attn.causal_conv(step, weight, bias, activation="silu", state=state, state_out=state)
# [conv]
assert key.shape == step.shape
# [scan]
h, last = attn.gated_scan(v, forget, form="factor", lerp=True, return_state=True)  # HGRN
h_next = attn.gated_scan(v[:, :1], forget[:, :1], form="factor", lerp=True, state=last, state_out=last)
# [scan]
np.testing.assert_array_equal(last, h_next[:, 0])

# [state]
out, state = recipes.deltanet(q, k, v, beta, return_state=True)
saved = recipes.DELTANET.save(state, C, tokens=T)  # bytes with a header and a checksum
again = recipes.DELTANET.new_state(H, C, C, states=B)
assert recipes.DELTANET.load(saved, again, C) == T
recipes.deltanet(q[:, :1], k[:, :1], v[:, :1], beta[:, :1], state=again, state_out=again)  # a step, in place
# [state]

# [custom]
method = attn.LinearMethod(decay="channel", update="gated_delta", qk_l2norm=True)  # Gated DeltaNet 2
out = attn.linear_attention(q, k, v, method, decay=decay, erase=forget, write=forget)
# [custom]
assert np.isfinite(out).all()
