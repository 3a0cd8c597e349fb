import ast
from pathlib import Path

import numpy as np
import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.initializers import Normal, Ones, Zeros
from isoscale.common.config.model_spec import Factors, Family
from isoscale.common.registry import lookup
from isoscale.models.mlp.spec import MlpSpec
from isoscale.models.moe.spec import MoeSpec, reference_experts
from isoscale.models.transformer.spec import TransformerSpec
from tests.conftest import ROOT

PRESETS = lookup.presets()
ALL = {**{name: preset.spec for name, preset in PRESETS.items()}, **lookup.parity_specs()}

# Computed by hand: embeddings + layers x (attention + feed-forward + norms) + final norm + head.
D, F, V, T = 128, 512, 20000, 128
BLOCK = 4 * (D * D + D) + (D * F + F + F * D + D) + 4 * D
PARAMETERS = {
    "mlp_medium": 258_432,
    "mlp_large": 6_885_376,
    "mlp_digits": 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10,
    "transformer_small": (V + T) * D + 2 * BLOCK + 2 * D + (D * 4 + 4),
    "transformer_large": (V + 256) * 256
    + 4 * (4 * (256 * 256 + 256) + (256 * 1024 + 1024 + 1024 * 256 + 256) + 4 * 256)
    + 2 * 256
    + (256 * 4 + 4),
    "gpt_tiny": (256 + T) * D + 4 * BLOCK + 2 * D + (D * 256 + 256),
    "moe_tiny": (256 + T) * D
    + 2 * (4 * (D * D + D) + 4 * D + D * 8 + 8 * 2 * D * 256)
    + 2 * D
    + (D * 256 + 256),
}
BATCHES = {
    "mlp_medium": 64,
    "mlp_large": 32,
    "mlp_digits": 64,
    "transformer_small": 8,
    "transformer_large": 32,
    "gpt_tiny": 8,
    "moe_tiny": 8,
}


def test_presets_have_the_expected_parameter_counts_and_batch_sizes() -> None:
    assert {name: preset.spec.parameter_count for name, preset in PRESETS.items()} == PARAMETERS
    assert {name: preset.global_batch_size for name, preset in PRESETS.items()} == BATCHES


@pytest.mark.parametrize("name", ALL)
def test_the_parameters_of_a_spec_are_consistent(name: str) -> None:
    tree = ALL[name].parameters()
    assert len({p.name for p in tree}) == len(tree)
    for parameter in tree:
        assert len(parameter.dims) == len(parameter.shape), parameter.name
        assert parameter.decay == parameter.name.endswith(("kernel", "embedding"))


@pytest.mark.parametrize("name", lookup.parity_specs())
def test_parity_sizes_are_small(name: str) -> None:
    assert ALL[name].parameter_count <= 100_000


@pytest.mark.parametrize("name", lookup.parity_specs())
def test_initial_parameters_follow_their_definition(name: str) -> None:
    spec = ALL[name]
    first, again, other = (spec.initial_parameters(seed=s) for s in (0, 0, 1))
    for parameter in spec.parameters():
        value = first[parameter.name]
        assert value.dtype == np.float32
        assert value.shape == parameter.shape
        assert np.array_equal(value, again[parameter.name])
        if isinstance(parameter.initializer, Zeros | Ones):
            assert np.all(value == isinstance(parameter.initializer, Ones))
            continue
        assert not np.array_equal(value, other[parameter.name])
        if parameter.initializer == Normal(std=0.02):
            assert value.std() == pytest.approx(0.02, rel=5 / np.sqrt(value.size))
        else:
            bound = np.sqrt(6 / sum(parameter.shape))
            assert np.abs(value).max() <= bound
            assert value.std() == pytest.approx(bound / np.sqrt(3), rel=5 / np.sqrt(value.size))


def test_flops_by_hand() -> None:
    assert PRESETS["mlp_digits"].spec.forward_flops(global_batch_size=2) == 2 * 2 * (
        64 * 128 + 128 * 64 + 64 * 10
    )
    tokens = 8 * 128
    gpt = 4 * (8 * tokens * D * D + 4 * tokens * T * D + 4 * tokens * D * F) + 2 * tokens * D * 256
    assert PRESETS["gpt_tiny"].spec.forward_flops(global_batch_size=8) == gpt
    assert PRESETS["gpt_tiny"].spec.training_flops(global_batch_size=8) == 3 * gpt
    moe = PRESETS["moe_tiny"].spec
    layer = 8 * tokens * D * D + 4 * tokens * T * D + 2 * tokens * D * 8 + 2 * 4 * tokens * D * 256
    assert moe.forward_flops(global_batch_size=8) == 2 * layer + 2 * tokens * D * 256


def test_training_flops_of_an_mlp_leave_out_the_gradient_of_its_inputs() -> None:
    """Every layer has a forward product and a weight gradient; all except the first have an input
    gradient."""
    products = [799 * 256, 256 * 128, 128 * 64, 64 * 192]
    expected = 2 * 64 * (2 * sum(products) + sum(products[1:]))
    assert PRESETS["mlp_medium"].spec.training_flops(global_batch_size=64) == expected == 72_810_496


def test_moe_flops_grow_with_k_not_with_experts() -> None:
    def flops(**sizes: int) -> int:
        return MoeSpec(**sizes).forward_flops(global_batch_size=8)

    router = 2 * 2 * 8 * 128 * 128 * 8
    assert flops(num_experts=16) - flops(num_experts=8) == router
    assert flops(top_k=4) > flops(top_k=2)


@pytest.mark.parametrize(
    "model, sizes, message",
    [
        ("gpt_tiny", {"num_heads": 3}, "num_heads=3 does not divide d_model=128"),
        ("gpt_tiny", {"num_layers": 0}, "num_layers=0"),
        ("gpt_tiny", {"num_classes": 4}, "num_classes=4 must be 0 for a causal model"),
        ("transformer_small", {"num_classes": 0}, "num_classes=0"),
        ("gpt_tiny", {"activation": "gelu_tan"}, "'gelu_tan': did you mean 'gelu_tanh'?"),
        ("moe_tiny", {"layer_norm_epsilon": 0.0}, "layer_norm_epsilon=0.0 must be a positive"),
        ("transformer_small", {"tie_embeddings": True}, "tie_embeddings=True needs a causal"),
        ("mlp_medium", {"hidden_sizes": ()}, "hidden_sizes="),
        ("mlp_medium", {"dropout_rate": 1.0}, "dropout_rate=1.0"),
        ("moe_tiny", {"top_k": 9}, "top_k=9 exceeds num_experts=8"),
        ("moe_tiny", {"capacity_factor": 0.0}, "capacity_factor=0.0"),
    ],
)
def test_sizes_are_checked(model: str, sizes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PRESETS[model].spec.with_overrides(sizes)


def test_a_spec_states_the_features_of_its_model() -> None:
    can = {
        name: (s.dropout, s.experts, s.auxiliary_loss_coefficient, s.sequence)
        for name, s in ((n, PRESETS[n].spec) for n in ("mlp_medium", "gpt_tiny", "moe_tiny"))
    }
    assert can == {
        "mlp_medium": (0.0, 0, None, None),
        "gpt_tiny": (0.0, 0, None, 128),
        "moe_tiny": (0.0, 8, 0.01, 128),
    }
    assert PRESETS["mlp_medium"].spec.with_overrides({"dropout_rate": 0.5}).dropout == 0.5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"presets": {}}, "at least one preset"),
        ({"parity_specs": {}}, "at least one preset"),
        ({"parity_specs": {"small": MoeSpec()}}, "MlpSpec"),
        ({"parity_starts": {"tiny": {"kernel": 0.0}}}, "tiny"),
        ({"parity_optimizers": ("tiny",)}, "tiny"),
        ({"parity_large": {"kernels": Factors()}}, "no parameter ends with 'kernels'"),
    ],
)
def test_an_invalid_family_is_refused(changes: dict, message: str) -> None:
    right = {"presets": {"mlp": PRESETS["mlp_medium"]}, "parity_specs": {"small": MlpSpec()}}
    assert Family(**right).default == "mlp"
    with pytest.raises(ValueError, match=message):
        Family(**{**right, **changes})


MODEL_FILES = sorted((ROOT / "models").glob("*/*_model.py"))


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_all_models_have_the_same_build_and_call_signatures(path: Path) -> None:
    """Reads the source files, because importing all frameworks into one process takes long."""
    functions = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            given = [argument.arg for argument in node.args.args]
            functions.setdefault(node.name, []).append(
                (given, [argument.arg for argument in node.args.kwonlyargs])
            )
    assert functions["build"] == [(["spec"], ["dtype", "param_dtype", "tweaks"])]
    calls = [*functions.get("__call__", []), *functions.get("forward", [])]
    assert [names for _, names in calls if names] == [
        ["dropout"]
    ]  # only in the call of the whole model


def test_expert_capacity_is_rounded_up() -> None:
    assert MoeSpec().expert_capacity == 40
    assert MoeSpec(sequence_length=10, num_experts=3, top_k=2).expert_capacity == 9
    exact = MoeSpec(sequence_length=100, num_experts=2, top_k=1, capacity_factor=1.1)
    assert exact.expert_capacity == 55  # in floating point, 1.1 x 50 is slightly larger than 55


def test_routing_fills_slots_choice_major_and_drops_the_rest() -> None:
    """All 4 tokens choose expert 0, which has 2 slots: the first 2 tokens get them."""
    spec = MoeSpec(
        d_model=2, num_heads=1, d_ff=2, num_experts=2, top_k=1, capacity_factor=1.0,
        sequence_length=4, vocabulary_size=4, num_layers=1,
    )  # fmt: skip
    assert spec.expert_capacity == 2
    parameters = {
        "e/router_kernel": np.array([[5.0, 0.0], [0.0, 0.0]]),
        "e/up_kernel": np.ones((2, 2, 2)),
        "e/down_kernel": np.ones((2, 2, 2)),
    }
    x = np.ones((1, 4, 2))
    y, auxiliary = reference_experts(spec, parameters, "e", x, None)
    assert np.all(y[0, :2] > 0)
    assert np.all(y[0, 2:] == 0)
    probability = 1 / (1 + np.exp(-5.0))
    assert auxiliary == pytest.approx([2 * probability])  # E x (f_0 = 1) x P_0
    masked, _ = reference_experts(spec, parameters, "e", x, np.array([[True, False, True, True]]))
    assert [bool(row.any()) for row in masked[0]] == [True, False, True, False]


def test_tokens_in_the_padding_do_not_change_the_logits() -> None:
    """Other tokens in the padding do not change the logits of an encoder."""
    spec = lookup.parity_specs()["transformer_encoder"]
    assert isinstance(spec, TransformerSpec)
    random = np.random.default_rng(0)
    parameters = spec.initial_parameters(seed=0)
    mask = np.arange(12) < np.array([[7], [12]])
    tokens = random.integers(40, size=(2, 12))
    changed = np.where(mask, tokens, (tokens + 1) % 40)
    logits = [
        spec.reference_forward(parameters, {"tokens": t, "padding_mask": mask})[0]
        for t in (tokens, changed)
    ]
    assert np.array_equal(*logits)
    assert not np.array_equal(tokens, changed)


def test_tied_embeddings_replace_the_head() -> None:
    for model in ("gpt_tiny", "moe_tiny"):
        free = PRESETS[model].spec
        tied = free.with_overrides({"tie_embeddings": True})
        gone = {p.name for p in free.parameters()} - {p.name for p in tied.parameters()}
        assert gone == {"head/kernel", "head/bias"}
        flops = {spec.forward_flops(global_batch_size=8) for spec in (free, tied)}
        assert len(flops) == 1


def test_a_causal_model_does_not_look_ahead() -> None:
    for name in ("transformer_causal", "moe_plain"):
        spec = lookup.parity_specs()[name]
        parameters = spec.initial_parameters(seed=0)
        tokens = np.random.default_rng(0).integers(40, size=(1, 12))
        changed = tokens.copy()
        changed[:, 8:] = (changed[:, 8:] + 1) % 40
        before, after = (
            spec.reference_forward(parameters, {"tokens": t})[0] for t in (tokens, changed)
        )
        first = before[:, :8]
        if name == "transformer_causal":
            assert np.array_equal(first, after[:, :8])
        # Expert slots are filled per sequence: by definition, a later token's first choice can
        # displace an earlier token's second choice. Only later positions must differ.
        assert not np.array_equal(before[:, 8:], after[:, 8:])
