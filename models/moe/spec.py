"""The mixture of experts: a causal language model with experts as feed-forward layers.

All frameworks route in the same way. K is ``top_k``, E is ``num_experts``, and T is the sequence
length, padding included. A group is one sequence; therefore N devices route like one. Each token
chooses the K experts with the largest softmax probabilities (on ties the lowest expert index); its
K gates are these probabilities divided by their sum. Every expert has
C = min(T, ceil(capacity_factor K T / E)) slots per group. Slots are filled choice-major: all first
choices in token order, then all second choices, and so on. A choice without a free slot is dropped
and adds 0. Padding tokens are not routed. The auxiliary loss is the mean over groups and layers of
E sum_e f_e P_e (Fedus et al. 2021, arXiv:2101.03961, equations 4-6). Here f_e = choices for e /
(T K), before dropping, and P_e = sum of the probabilities of e over real tokens / T.
"""

import dataclasses
import functools
import math
from fractions import Fraction

import numpy as np

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.model_spec import (
    MOST_LAYERS,
    Arrays,
    Factors,
    Family,
    ModelSpec,
    Parameter,
    Preset,
    TokenBatch,
    check_sizes,
)
from isoscale.common.reference import functions as reference
from isoscale.models.layers import layer_specs as layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoeSpec(ModelSpec):
    """Sizes of the network.

    Attributes:
      d_model, num_layers, num_heads, vocabulary_size, sequence_length: as in the transformer.
      d_ff: hidden width of one expert (two matrix products without biases).
      num_experts, top_k: number of experts per layer; number of experts per token.
      capacity_factor: slots per expert relative to an even spread.
      aux_loss_weight: coefficient of the auxiliary (load-balancing) loss.
      variable_length: whether sequences differ in length and have a padding mask.
      activation, layer_norm_epsilon, tie_embeddings: as in the transformer.
    """

    d_model: int = 128
    num_layers: int = 2
    num_heads: int = 4
    d_ff: int = 256
    num_experts: int = 8
    top_k: int = 2
    capacity_factor: float = 1.25
    aux_loss_weight: float = 0.01
    vocabulary_size: int = 256
    sequence_length: int = 128
    variable_length: bool = False
    activation: str = "gelu_tanh"
    layer_norm_epsilon: float = reference.LAYER_NORM_EPSILON
    tie_embeddings: bool = False

    def __post_init__(self) -> None:
        check_sizes(
            self,
            "d_model",
            "num_heads",
            "d_ff",
            "num_experts",
            "top_k",
            "vocabulary_size",
            "sequence_length",
        )
        check_sizes(self, "num_layers", maximum=MOST_LAYERS)
        layers.check_heads(self.d_model, self.num_heads)
        layers.check_network(self.activation, self.layer_norm_epsilon)
        if self.top_k > self.num_experts:
            raise ConfigError(f"top_k={self.top_k} exceeds num_experts={self.num_experts}")
        if not (self.capacity_factor > 0 and math.isfinite(self.capacity_factor)):
            raise ConfigError(f"capacity_factor={self.capacity_factor} must be positive and finite")
        if not (self.aux_loss_weight >= 0 and math.isfinite(self.aux_loss_weight)):
            raise ConfigError(
                f"aux_loss_weight={self.aux_loss_weight} must be 0 or positive, and finite"
            )

    @property
    def expert_capacity(self) -> int:
        """Returns the slots per expert and group, at most T: more slots would stay empty."""
        factor = Fraction(str(self.capacity_factor))  # the decimal number as typed
        even = Fraction(self.top_k * self.sequence_length, self.num_experts)
        return min(math.ceil(factor * even), self.sequence_length)

    @property
    def auxiliary_loss_coefficient(self) -> float:
        return self.aux_loss_weight

    @property
    def experts(self) -> int:
        return self.num_experts

    def parameters(self) -> tuple[Parameter, ...]:
        d, f, e = self.d_model, self.d_ff, self.num_experts
        tree = layers.embeddings(self.vocabulary_size, self.sequence_length, d)
        for index in range(self.num_layers):
            block = f"block_{index}"
            tree += layers.layer_norm(f"{block}/attention_norm", d)
            tree += layers.attention(f"{block}/attention", d)
            tree += layers.layer_norm(f"{block}/experts_norm", d)
            tree += [
                layers.kernel(f"{block}/experts/router_kernel", (d, e), ("d_model", "experts")),
                layers.kernel(
                    f"{block}/experts/up_kernel", (e, d, f), ("experts", "d_model", "d_ff")
                ),
                layers.kernel(
                    f"{block}/experts/down_kernel", (e, f, d), ("experts", "d_ff", "d_model")
                ),
            ]
        tree += layers.layer_norm("final_norm", d)
        tree += layers.head(self.vocabulary_size, d, tied=self.tie_embeddings)
        return tuple(tree)

    def batch_kind(self) -> TokenBatch:
        return TokenBatch(
            vocabulary_size=self.vocabulary_size,
            sequence_length=self.sequence_length,
            num_classes=None,
            variable_length=self.variable_length,
        )

    def forward_flops(self, *, global_batch_size: int) -> int:
        """Returns the transformer's FLOPs with K experts per token, plus the router's product."""
        tokens = global_batch_size * self.sequence_length
        per_layer = (
            layers.attention_flops(
                tokens=tokens, sequence_length=self.sequence_length, d_model=self.d_model
            )
            + 2 * tokens * self.d_model * self.num_experts
            + self.top_k * 2 * 2 * tokens * self.d_model * self.d_ff
        )
        return self.num_layers * per_layer + 2 * tokens * self.d_model * self.vocabulary_size

    def reference_forward(self, parameters: Arrays, batch: Arrays) -> tuple[np.ndarray, np.ndarray]:
        mask_BT = batch.get("padding_mask")
        norm = functools.partial(layers.reference_norm, parameters, epsilon=self.layer_norm_epsilon)
        x_BTD = layers.reference_embed(parameters, batch)
        auxiliary_B = np.zeros(len(x_BTD))
        for index in range(self.num_layers):
            block = f"block_{index}"
            x_BTD = x_BTD + layers.reference_attention(
                parameters,
                f"{block}/attention",
                norm(f"{block}/attention_norm", x_BTD),
                num_heads=self.num_heads,
                causal=True,
                padding_mask_BS=mask_BT,
            )
            y_BTD, layer_auxiliary_B = reference_experts(
                self,
                parameters,
                f"{block}/experts",
                norm(f"{block}/experts_norm", x_BTD),
                mask_BT,
            )
            x_BTD = x_BTD + y_BTD
            auxiliary_B += layer_auxiliary_B / self.num_layers
        x_BTD = norm("final_norm", x_BTD)
        logits = layers.reference_head(parameters, x_BTD, tied=self.tie_embeddings)
        return logits, auxiliary_B


def reference_route(
    spec: MoeSpec, probabilities_TE: np.ndarray, tokens: list[int]
) -> list[tuple[int, int, bool]]:
    """Returns (token, expert, True if a slot was free) for each choice of one group.

    The choices are in the order in which slots are filled. A token chooses its experts in the order
    of their probabilities.

    Args:
      spec: sizes of the network.
      probabilities_TE: softmax of the router.
      tokens: indices of the real tokens.
    """
    # A stable sort of the negated probabilities puts the lowest expert index first on ties.
    chosen = {
        t: np.argsort(-probabilities_TE[t], kind="stable")[: spec.top_k].tolist() for t in tokens
    }
    used = [0] * spec.num_experts
    choices = []
    for k in range(spec.top_k):
        for t in tokens:
            expert = chosen[t][k]
            used[expert] += 1
            choices.append((t, expert, used[expert] <= spec.expert_capacity))
    return choices


def reference_experts(
    spec: MoeSpec,
    parameters: Arrays,
    name: str,
    x_BTD: np.ndarray,
    mask_BT: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (output [B, T, D], auxiliary loss of each group [B]).

    The loops over tokens and choices are on purpose: the implementations use other methods.
    """
    probabilities_BTE = reference.softmax(x_BTD @ parameters[f"{name}/router_kernel"])
    output_BTD = np.zeros_like(x_BTD)
    activation = reference.ACTIVATIONS[spec.activation]
    batch, length, _ = x_BTD.shape
    auxiliary_B = np.zeros(batch)
    for b in range(batch):
        real = [t for t in range(length) if mask_BT is None or mask_BT[b, t]]
        used = np.zeros(spec.num_experts)
        chosen_probability = dict.fromkeys(real, 0.0)
        choices = reference_route(spec, probabilities_BTE[b], real)
        for t, expert, _ in choices:
            used[expert] += 1
            chosen_probability[t] += probabilities_BTE[b, t, expert]
        for t, expert, kept in choices:
            if kept:
                gate = probabilities_BTE[b, t, expert] / chosen_probability[t]
                hidden = activation(x_BTD[b, t] @ parameters[f"{name}/up_kernel"][expert])
                output_BTD[b, t] += gate * (hidden @ parameters[f"{name}/down_kernel"][expert])
        fraction = used / (length * spec.top_k)
        mean_probability = probabilities_BTE[b, real].sum(0) / length
        auxiliary_B[b] = spec.num_experts * float((fraction * mean_probability).sum())
    return output_BTD, auxiliary_B


_PRESETS = {"moe_tiny": Preset(spec=MoeSpec(), global_batch_size=8, steps=20)}

_PARITY = MoeSpec(
    d_model=16,
    num_layers=2,
    num_heads=2,
    d_ff=24,
    num_experts=5,
    top_k=2,
    capacity_factor=1.0,
    vocabulary_size=40,
    sequence_length=12,
)
_PARITY_SPECS = {
    "moe_plain": _PARITY,
    "moe_padded": dataclasses.replace(
        _PARITY, num_layers=1, variable_length=True, top_k=3, capacity_factor=0.8
    ),
    # 8 sequences x 3 choices for 32 experts: some experts have no token.
    "moe_unused": dataclasses.replace(
        _PARITY,
        num_layers=1,
        num_experts=32,
        top_k=1,
        sequence_length=3,
        activation="gelu",
        layer_norm_epsilon=0.1,
        tie_embeddings=True,
    ),
    # Each token chooses all experts except one, so in the first step one expert has no token. If
    # two experts had no token, their router columns would stay equal up to rounding, and rounding
    # would decide which of them a token chooses.
    "moe_ties": dataclasses.replace(_PARITY, num_layers=1, top_k=4),
}
FAMILY = Family(
    presets=_PRESETS,
    parity_specs=_PARITY_SPECS,
    # Equal probabilities: in the first step every choice is a tie.
    parity_starts={"moe_ties": {"router_kernel": 0.0}},
    parity_large={
        **layers.LARGE_FACTORS,
        # The router saturates, but no probability is 0: experts with probability 0 would be ties.
        "router_kernel": Factors(first=1.0, last=20.0),
        "up_kernel": Factors(first=1.0, last=40.0),
        "down_kernel": Factors(first=0.1, last=1.0),
    },
)
