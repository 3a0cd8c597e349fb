"""The mixture of experts in PyTorch; the routing rules are in ``spec.py``.

Dims: B batch (= groups), T sequence, D d_model, F d_ff, E experts, C capacity, K top_k,
S = E C slots, M = K T choices, R rows of a flattened tensor, V vocabulary.
"""

from collections.abc import Collection

import torch
from torch import nn
from torch.nn import functional

from isoscale.models.layers.torch_layers import ACTIVATIONS, Attention, Dense, Embedder, LayerNorm
from isoscale.models.moe.spec import MoeSpec


def route(
    probabilities_BTE: torch.Tensor, mask_BT: torch.Tensor | None, *, top_k: int, capacity: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Assigns tokens to expert slots, group by group.

    Returns:
      slot_BTK: slot of each choice: expert * C + position; E * C for a dropped choice.
      gate_BTK: weight of each choice; 0 for a dropped choice.
      fraction_BE: choices of real tokens for each expert / (T K), including those dropped for lack
        of a slot.
    """
    batch, length, num_experts = probabilities_BTE.shape
    # torch.topk does not define the order of ties; a stable sort puts the lowest index first.
    top_BTE, expert_BTE = torch.sort(probabilities_BTE, dim=-1, descending=True, stable=True)
    top_BTK, expert_BTK = top_BTE[..., :top_k], expert_BTE[..., :top_k]
    gate_BTK = top_BTK / top_BTK.sum(-1, keepdim=True)
    expert_BM = expert_BTK.transpose(1, 2).reshape(batch, -1)  # choice-major
    chosen_BME = functional.one_hot(expert_BM, num_experts)
    if mask_BT is not None:
        chosen_BME = chosen_BME * mask_BT.repeat(1, top_k)[..., None]
    place_BME = chosen_BME.cumsum(1) * chosen_BME  # 1-based; 0 where not chosen
    position_BTK = (place_BME.sum(-1) - 1).view(batch, top_k, length).transpose(1, 2)
    kept_BTK = (position_BTK >= 0) & (position_BTK < capacity)
    slot_BTK = torch.where(kept_BTK, expert_BTK * capacity + position_BTK, num_experts * capacity)
    fraction_BE = chosen_BME.sum(1).to(gate_BTK.dtype) / (length * top_k)
    return slot_BTK, gate_BTK * kept_BTK, fraction_BE


class Experts(nn.Module):
    def __init__(self, spec: MoeSpec):
        super().__init__()
        self.spec = spec
        self.activation = ACTIVATIONS[spec.activation]
        d, f, e = spec.d_model, spec.d_ff, spec.num_experts
        self.router_kernel = nn.Parameter(0.02 * torch.randn(d, e))
        self.up_kernel = nn.Parameter(0.02 * torch.randn(e, d, f))
        self.down_kernel = nn.Parameter(0.02 * torch.randn(e, f, d))

    def forward(
        self, x_BTD: torch.Tensor, mask_BT: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (output [B, T, D], auxiliary loss of each group [B])."""
        spec = self.spec
        batch, length, d_model = x_BTD.shape
        experts, capacity, top_k = spec.num_experts, spec.expert_capacity, spec.top_k
        slots = experts * capacity
        # The router stays in the parameters' dtype: float32 under bfloat16.
        probabilities_BTE = torch.softmax(
            x_BTD.to(self.router_kernel.dtype) @ self.router_kernel, -1
        )
        slot_BTK, gate_BTK, fraction_BE = route(
            probabilities_BTE, mask_BT, top_k=top_k, capacity=capacity
        )
        if mask_BT is None:
            mean_BE = probabilities_BTE.sum(1) / length
        else:
            mean_BE = (probabilities_BTE * mask_BT[..., None]).sum(1) / length
        auxiliary_B = experts * (fraction_BE * mean_BE).sum(-1)

        # The token of each slot. Index T, a row of zeros, marks an empty slot. Dropped choices
        # write to one extra slot at the end, which is discarded below. token_TK has the order of
        # slot_BTK.flatten(1).
        token_TK = torch.arange(length, device=x_BTD.device).repeat_interleave(top_k)
        token_BS = torch.full((batch, slots + 1), length, device=x_BTD.device)
        token_BS.scatter_(1, slot_BTK.flatten(1), token_TK.expand(batch, -1))
        offsets_B1 = torch.arange(batch, device=x_BTD.device)[:, None]
        padded_RD = functional.pad(x_BTD, (0, 0, 0, 1)).flatten(0, 1)
        rows_BS = token_BS[:, :-1] + offsets_B1 * (length + 1)
        x_BECD = padded_RD.index_select(0, rows_BS.flatten()).view(batch, experts, capacity, -1)
        x_ERD = x_BECD.transpose(0, 1).reshape(experts, batch * capacity, d_model)
        hidden_ERF = self.activation(torch.bmm(x_ERD, self.up_kernel.to(x_ERD.dtype)))
        y_ERD = torch.bmm(hidden_ERF, self.down_kernel.to(x_ERD.dtype))
        y_BSD = y_ERD.view(experts, batch, capacity, d_model).transpose(0, 1).flatten(1, 2)
        y_RD = functional.pad(y_BSD, (0, 0, 0, 1)).flatten(0, 1)
        rows_BTK = slot_BTK + offsets_B1[..., None] * (slots + 1)
        y_BTKD = y_RD.index_select(0, rows_BTK.flatten()).view(batch, length, top_k, d_model)
        return (y_BTKD * gate_BTK[..., None].to(y_BTKD.dtype)).sum(2), auxiliary_B


class Block(nn.Module):
    def __init__(self, spec: MoeSpec, *, tweaks: Collection[str]):
        super().__init__()
        self.attention_norm = LayerNorm(spec.d_model, eps=spec.layer_norm_epsilon)
        self.attention = Attention(spec.d_model, spec.num_heads, causal=True, tweaks=tweaks)
        self.experts_norm = LayerNorm(spec.d_model, eps=spec.layer_norm_epsilon)
        self.experts = Experts(spec)

    def forward(
        self, x_BTD: torch.Tensor, mask_BT: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), mask_BT)
        y_BTD, auxiliary_B = self.experts(self.experts_norm(x_BTD), mask_BT)
        return x_BTD + y_BTD, auxiliary_B


class Moe(Embedder):
    def __init__(self, spec: MoeSpec, *, dtype: torch.dtype, tweaks: Collection[str]):
        super().__init__(spec.vocabulary_size, spec.sequence_length, spec.d_model, dtype=dtype)
        self.block = nn.ModuleList([Block(spec, tweaks=tweaks) for _ in range(spec.num_layers)])
        self.final_norm = LayerNorm(spec.d_model, eps=spec.layer_norm_epsilon)
        self.tied = spec.tie_embeddings
        if not self.tied:
            self.head = Dense(spec.d_model, spec.vocabulary_size, tweaks=tweaks)

    def forward(
        self,
        tokens_BT: torch.Tensor,
        padding_mask_BT: torch.Tensor | None = None,
        *,
        dropout: bool | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (logits [B, T, V], auxiliary loss of each group [B])."""
        del dropout  # this family has no dropout
        x_BTD = self.embed(tokens_BT)
        auxiliary = []
        for block in self.block:
            x_BTD, auxiliary_B = block(x_BTD, padding_mask_BT)
            auxiliary.append(auxiliary_B / len(self.block))
        x_BTD = self.final_norm(x_BTD)
        logits_BTV = self.tied_logits(x_BTD) if self.tied else self.head(x_BTD)
        return logits_BTV, torch.stack(auxiliary).sum(0)


def build(
    spec: MoeSpec, *, dtype: torch.dtype, param_dtype: torch.dtype, tweaks: Collection[str]
) -> Moe:
    return Moe(spec, dtype=dtype, tweaks=tweaks).to(param_dtype)
