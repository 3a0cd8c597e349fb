"""Independent, hand-written training steps, as a good user of each framework would write them.

They share start values and batches with the runners, but no code, so that the benchmark can check
that both compute the same loss. mlp_medium and gpt_tiny, AdamW with clipping, float32, one device.
``STEPS[framework](model, initial, batches, tuned)`` imports the framework and returns ``(step,
wait, steps)``: ``step(i)`` makes ``steps`` steps, the first with number i, and returns the last
loss.
``tuned`` is the version that the same user would write after reading ``isoscale tweaks``.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

LR, B1, B2, EPS, DECAY, CLIP = 1e-3, 0.9, 0.999, 1e-8, 0.01, 1.0
HEADS = 4
BLOCK = 10


def jax_step(model: str, initial: dict[str, Any], batches: list[dict], tuned: bool) -> tuple:
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    def norm(x, p, name):
        mean = x.mean(-1, keepdims=True)
        variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0)
        y = (x - mean) * jax.lax.rsqrt(variance + 1e-5)
        return y * p[f"{name}/scale"] + p[f"{name}/bias"]

    def dense(x, p, name):
        if not tuned:
            return x @ p[f"{name}/kernel"] + p[f"{name}/bias"]
        y = x.reshape(-1, x.shape[-1]) @ p[f"{name}/kernel"] + p[f"{name}/bias"]
        return y.reshape(*x.shape[:-1], -1)

    def mlp(p, batch):
        x = batch["inputs"]
        for i in range(3):
            x = jax.nn.relu(dense(x, p, f"dense_{i}"))
        return dense(x, p, "dense_3")

    def gpt(p, batch):
        tokens = batch["tokens"]
        b, t = tokens.shape
        x = p["token_embedding/embedding"][tokens] + p["position_embedding/embedding"][:t]
        mask = jnp.tril(jnp.ones((t, t), bool))
        for i in range(4):
            y = norm(x, p, f"block_{i}/attention_norm")
            q, k, v = (
                dense(y, p, f"block_{i}/attention/{n}").reshape(b, t, HEADS, -1)
                for n in ("query", "key", "value")
            )
            if tuned:
                q, k, v = (a.swapaxes(1, 2) for a in (q, k, v))
            keys = "bhqd,bhkd->bhqk" if tuned else "bqhd,bkhd->bhqk"
            scores = jnp.einsum(keys, q, k) / math.sqrt(q.shape[-1])
            weights = jax.nn.softmax(jnp.where(mask, scores, -1e30))
            if tuned:
                y = jnp.einsum("bhqk,bhkd->bhqd", weights, v).swapaxes(1, 2).reshape(x.shape)
            else:
                y = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
            x = x + dense(y, p, f"block_{i}/attention/output")
            y = norm(x, p, f"block_{i}/feed_forward_norm")
            y = jax.nn.gelu(dense(y, p, f"block_{i}/feed_forward/up"))
            x = x + dense(y, p, f"block_{i}/feed_forward/down")
        return dense(norm(x, p, "final_norm"), p, "head")

    def clip(gradients, p):
        scale = jnp.minimum(1.0, CLIP / optax.global_norm(gradients))
        return jax.tree.map(lambda g: g * scale, gradients)

    forward = mlp if model == "mlp_medium" else gpt
    mask = {name: name.endswith(("kernel", "embedding")) for name in initial}
    optimizer = optax.chain(
        optax.stateless(clip), optax.adamw(LR, B1, B2, EPS, weight_decay=DECAY, mask=mask)
    )

    def loss(p, batch):
        logits = forward(p, batch)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    def update(p, state, batch):
        value, gradients = jax.value_and_grad(loss)(p, batch)
        updates, state = optimizer.update(gradients, state, p)
        return optax.apply_updates(p, updates), state, value

    compiled = jax.jit(update, donate_argnums=(0, 1))
    held = [jax.device_put(initial), jax.device_put(optimizer.init(initial))]
    arrays = [{k: v for k, v in b.items() if v.ndim} for b in batches]
    if tuned and model == "mlp_medium":
        pool = jax.device_put({k: np.stack([b[k] for b in arrays]) for k in arrays[0]})

        def several(p, state, pool, first):
            def body(carry, i):
                batch = jax.tree.map(lambda v: v[i % v.shape[0]], pool)
                p, state, value = update(*carry, batch)
                return (p, state), value

            (p, state), values = jax.lax.scan(body, (p, state), first + jnp.arange(BLOCK))
            return p, state, values[-1]

        block = jax.jit(several, donate_argnums=(0, 1))

        def steps(i: int) -> Any:
            held[0], held[1], value = block(*held, pool, i)
            return value

        return steps, lambda: jax.block_until_ready(held), BLOCK
    placed = [jax.device_put(b) for b in arrays]

    def step(i: int) -> Any:
        held[0], held[1], value = compiled(*held, placed[i % len(placed)])
        return value

    return step, lambda: jax.block_until_ready(held), 1


def torch_step(model: str, initial: dict[str, Any], batches: list[dict], tuned: bool) -> tuple:
    del tuned  # environment variables alone make this lane
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm, self.feed_forward_norm = nn.LayerNorm(128), nn.LayerNorm(128)
            self.query, self.key, self.value = (nn.Linear(128, 128) for _ in range(3))
            self.output = nn.Linear(128, 128)
            self.up, self.down = nn.Linear(128, 512), nn.Linear(512, 128)

        def forward(self, x):
            b, t, d = x.shape
            y = self.attention_norm(x)
            q, k, v = (
                f(y).view(b, t, HEADS, -1).transpose(1, 2)
                for f in (self.query, self.key, self.value)
            )
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.output(y.transpose(1, 2).reshape(b, t, d))
            y = functional.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh")
            return x + self.down(y)

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(256, 128), nn.Embedding(128, 128)
            self.blocks = nn.ModuleList([Block() for _ in range(4)])
            self.final_norm, self.head = nn.LayerNorm(128), nn.Linear(128, 256)

        def forward(self, tokens):
            x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.head(self.final_norm(x))

    if model == "mlp_medium":
        sizes = [799, 256, 128, 64, 192]
        layers: list[nn.Module] = []
        for i, o in itertools.pairwise(sizes):
            layers += [nn.Linear(i, o), nn.ReLU()]
        net: nn.Module = nn.Sequential(*layers[:-1])
        names = {f"dense_{i}": f"{2 * i}" for i in range(4)}
    else:
        net = Gpt()
        names = {"token_embedding": "tokens", "position_embedding": "positions"}
        names |= {"final_norm": "final_norm", "head": "head"}
        for i in range(4):
            for long, short in (
                ("attention_norm", "attention_norm"),
                ("feed_forward_norm", "feed_forward_norm"),
                ("attention/query", "query"),
                ("attention/key", "key"),
                ("attention/value", "value"),
                ("attention/output", "output"),
                ("feed_forward/up", "up"),
                ("feed_forward/down", "down"),
            ):
                names[f"block_{i}/{long}"] = f"blocks.{i}.{short}"
    state = {}
    for name, value in initial.items():
        path, leaf = name.rsplit("/", 1)
        tensor = torch.from_numpy(value.copy())
        state[f"{names[path]}.{'bias' if leaf == 'bias' else 'weight'}"] = (
            tensor.T.contiguous() if leaf == "kernel" else tensor
        )
    net.load_state_dict(state)
    decayed = [p for p in net.parameters() if p.ndim == 2]
    others = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=LR, betas=(B1, B2), eps=EPS, fused=True,
    )  # fmt: skip
    inputs = "inputs" if model == "mlp_medium" else "tokens"
    placed = [
        (torch.from_numpy(b[inputs].copy()), torch.from_numpy(b["labels"].copy()).long())
        for b in batches
    ]

    def step(i: int) -> Any:
        x, labels = placed[i % len(placed)]
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(net(x).flatten(0, -2), labels.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        return loss.detach()

    return step, lambda: None, 1


def tensorflow_step(model: str, initial: dict[str, Any], batches: list[dict], tuned: bool) -> tuple:
    import tensorflow as tf

    p = {name: tf.Variable(value) for name, value in initial.items()}
    first = {name: tf.Variable(tf.zeros_like(value)) for name, value in p.items()}
    second = {name: tf.Variable(tf.zeros_like(value)) for name, value in p.items()}
    count = tf.Variable(0.0)

    def norm(x, name):
        mean = tf.reduce_mean(x, -1, keepdims=True)
        centered = x - mean
        variance = tf.reduce_mean(tf.square(centered), -1, keepdims=True)
        y = centered * tf.math.rsqrt(variance + 1e-5)
        return y * p[f"{name}/scale"] + p[f"{name}/bias"]

    def dense(x, name):
        kernel = p[f"{name}/kernel"]
        y = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), kernel)
        y = tf.nn.bias_add(y, p[f"{name}/bias"])
        return tf.reshape(y, (*x.shape[:-1], kernel.shape[1]))

    def mlp(batch):
        x = batch["inputs"]
        for i in range(3):
            x = tf.nn.relu(dense(x, f"dense_{i}"))
        return dense(x, "dense_3")

    def gelu(x):
        return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))

    def gpt(batch):
        tokens = batch["tokens"]
        b, t = tokens.shape
        x = tf.gather(p["token_embedding/embedding"], tokens) + p["position_embedding/embedding"]
        mask = tf.linalg.band_part(tf.ones((t, t), tf.bool), -1, 0)
        for i in range(4):
            y = norm(x, f"block_{i}/attention_norm")
            q, k, v = (
                tf.transpose(
                    tf.reshape(dense(y, f"block_{i}/attention/{n}"), (b, t, HEADS, -1)),
                    (0, 2, 1, 3),
                )
                for n in ("query", "key", "value")
            )
            scores = tf.matmul(q / math.sqrt(q.shape[-1]), k, transpose_b=True)
            weights = tf.nn.softmax(tf.where(mask, scores, -1e30))
            y = tf.reshape(tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3)), x.shape)
            x = x + dense(y, f"block_{i}/attention/output")
            y = norm(x, f"block_{i}/feed_forward_norm")
            y = gelu(dense(y, f"block_{i}/feed_forward/up"))
            x = x + dense(y, f"block_{i}/feed_forward/down")
        return dense(norm(x, "final_norm"), "head")

    forward = mlp if model == "mlp_medium" else gpt

    def compute(batch):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"], forward(batch))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, list(p.values()))
        return loss, [tf.convert_to_tensor(g) for g in gradients]

    if tuned and model == "gpt_tiny":
        compute = tf.function(compute, jit_compile=True)

    @tf.function
    def update(batch):
        loss, gradients = compute(batch)
        gradients, _ = tf.clip_by_global_norm(gradients, CLIP)
        count.assign_add(1.0)
        power1, power2 = tf.pow(B1, count), tf.pow(B2, count)
        for (name, variable), gradient in zip(p.items(), gradients, strict=True):
            if name.endswith(("kernel", "embedding")):
                variable.assign(variable * (1 - LR * DECAY))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=first[name].handle, v=second[name].handle,
                beta1_power=power1, beta2_power=power2, lr=LR, beta1=B1, beta2=B2,
                epsilon=EPS * tf.sqrt(1 - power2), grad=gradient,
            )  # fmt: skip
        return loss

    arrays = [{k: v for k, v in b.items() if v.ndim} for b in batches]
    if tuned and model == "mlp_medium":
        pool = {k: tf.stack([b[k] for b in arrays]) for k in arrays[0]}

        @tf.function
        def several(first):
            loss = tf.constant(0.0)
            for i in tf.range(BLOCK):
                loss = update({k: v[(first + i) % len(arrays)] for k, v in pool.items()})
            return loss

        return (lambda i: several(tf.constant(i))), lambda: None, BLOCK
    placed = [{k: tf.constant(v) for k, v in b.items()} for b in arrays]
    return (lambda i: update(placed[i % len(placed)])), lambda: None, 1


STEPS: dict[str, Callable[..., tuple]] = {
    "jax": jax_step,
    "tensorflow": tensorflow_step,
    "torch": torch_step,
}
