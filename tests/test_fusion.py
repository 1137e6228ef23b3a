import math
from typing import get_args

import pytest
import torch
from torch import nn

from mmpipe.batches import Batch
from mmpipe.model.encoders import Encoded
from mmpipe.model.fusion import FUSIONS
from mmpipe.model.fusions.attention import CrossLayer, CrossModal, positions
from mmpipe.model.fusions.feature import Concat, Gated, LowRank
from mmpipe.model.fusions.opinions import Average, Stacking, Weighted
from mmpipe.model.network import Network
from mmpipe.params import Model
from mmpipe.tasks.classify import TASK, Classify

YES, HALF, NO = torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([0.0])


class Same(nn.Module):
    """Pooled = the input."""

    sequence_dim = 2

    def forward(self, x, lengths):
        return Encoded(x[:, None], x, torch.ones(len(x), 1))


def of(**pooled):
    """{modality: one sample, encoded as this vector}."""
    vectors = {m: torch.tensor([vector]) for m, vector in pooled.items()}
    return {m: Encoded(x[:, None], x, torch.ones(1, 1)) for m, x in vectors.items()}


def set_to(parameter, values):
    parameter.data = torch.tensor(values)


def test_params_name_the_fusions_that_there_are():
    assert set(get_args(Model.model_fields["fusion"].annotation)) == set(FUSIONS)


def test_concat_is_side_by_side_in_sorted_order_with_a_vector_for_what_is_absent():
    fusion = Concat(["text", "audio"], 2)
    set_to(fusion.absent["text"], [8.0, 9.0])
    encoded = of(text=[3.0, 4.0], audio=[1.0, 2.0])
    assert fusion(encoded, {"text": YES, "audio": YES}).tolist() == [[1, 2, 3, 4]]
    assert fusion(encoded, {"text": NO, "audio": YES}).tolist() == [[1, 2, 8, 9]]
    assert fusion(encoded, {"text": HALF, "audio": YES}).tolist() == [[1, 2, 5.5, 6.5]]
    assert fusion.out_dim == 4


def test_gated_units_multiply_what_a_modality_says_by_what_all_say_of_it():
    """tanh(ln 2) = 3/5, tanh(ln 3) = 4/5, sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2."""
    fusion = Gated(["text", "audio"], 1)
    set_to(fusion.content["audio"].weight, [[1.0]])
    set_to(fusion.content["text"].weight, [[2.0]])
    set_to(fusion.gate["audio"].weight, [[0.0, 2.0]])  # of audio, of text
    set_to(fusion.gate["text"].weight, [[0.0, 0.0]])
    set_to(fusion.absent["text"], [-math.log(3) / 2])
    encoded = of(audio=[math.log(2)], text=[math.log(3) / 2])

    def fused(**weight):
        return float(fusion(encoded, weight).detach())

    assert fused(audio=YES, text=YES) == pytest.approx(3 / 4 * 3 / 5 + 1 / 2 * 4 / 5)
    assert fused(audio=YES, text=NO) == pytest.approx(1 / 4 * 3 / 5)  # the gate sees the absent vector
    assert fused(audio=HALF, text=YES) == pytest.approx(3 / 4 * 3 / 5 / 2 + 1 / 2 * 4 / 5)
    assert fused(audio=NO, text=NO) == 0
    assert fusion.out_dim == 1


def test_lowrank_is_a_sum_of_products_of_one_number_a_modality():
    fusion = LowRank(["text", "audio"], 1, rank=2)
    assert (fusion.factors["audio"][:, 1] == 1).all() and fusion.mix.tolist() == [0.5, 0.5]
    set_to(fusion.factors["audio"], [[[2.0], [1.0]], [[-1.0], [0.0]]])  # rank 0: 2 a + 1, rank 1: -a
    set_to(fusion.factors["text"], [[[1.0], [3.0]], [[10.0], [1.0]]])  # rank 0: t + 3, rank 1: 10 t + 1
    set_to(fusion.mix, [1.0, 100.0])
    set_to(fusion.bias, [0.5])
    set_to(fusion.absent["text"], [-1.0])
    encoded = of(audio=[4.0], text=[2.0])
    both = fusion(encoded, {"audio": YES, "text": YES})
    assert both.tolist() == [[9 * 5 - 100 * 4 * 21 + 0.5]]
    alone = fusion(encoded, {"audio": YES, "text": NO})
    assert alone.tolist() == [[9 * 2 - 100 * 4 * -9 + 0.5]]
    assert fusion(encoded, {"audio": YES, "text": HALF}).tolist() == [[9 * 3.5 - 100 * 4 * 6 + 0.5]]


def test_a_low_rank_product_is_that_of_the_whole_tensor():
    """Brute force: h = 𝒲 · (z_audio ⊗ z_image ⊗ z_text), 𝒲 put together from the factors."""
    torch.manual_seed(0)
    names = ["audio", "image", "text"]
    fusion = LowRank(names, 3, rank=2)
    encoded = of(**{m: torch.randn(3).tolist() for m in names})
    factors = [fusion.factors[m] for m in names]
    whole = torch.einsum("r,rao,rbo,rco->abco", fusion.mix, *factors)
    z = [torch.cat([encoded[m].pooled[0], torch.ones(1)]) for m in names]
    wanted = torch.einsum("abco,a,b,c->o", whole, *z) + fusion.bias
    torch.testing.assert_close(fusion(encoded, dict.fromkeys(names, YES))[0], wanted)


def cross_layer():
    """Queries and keys are 0, values and what comes out are the source itself; no feed-forward net."""
    layer = CrossLayer(2, 1)
    layer.norm = layer.source_norm = layer.last_norm = nn.Identity()
    for part in (layer.query, layer.key, layer.value, layer.out, layer.forth[0], layer.forth[2]):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    for part in (layer.value, layer.out):
        part.weight.data = torch.eye(2)
    return layer


def test_attention_by_hand_takes_each_key_as_its_score_says():
    layer = cross_layer()
    x, source = torch.tensor([[[10.0, 0.0]]]), torch.tensor([[[1.0, 2.0], [5.0, 6.0], [99.0, 99.0]]])
    even = torch.tensor([[0.0, 0.0, -math.inf]])
    assert layer(x, source, even).tolist() == [[[10 + 3, 4]]]
    uneven = torch.tensor([[math.log(3), 0.0, -math.inf]])
    torch.testing.assert_close(layer(x, source, uneven), torch.tensor([[[10 + 2.0, 3.0]]]))
    set_to(layer.query.weight, [[0.1, 0.0], [0.0, 0.1]])
    set_to(layer.key.weight, [[0.0, 1.0], [1.0, 0.0]])
    near = math.exp((6 - 2) / math.sqrt(2))  # query (1, 0), keys (2, 1) and (6, 5), over √D
    wanted = 10 + (1 + 5 * near) / (1 + near)
    assert float(layer(x, source, even)[0, 0, 0].detach()) == pytest.approx(wanted, rel=1e-6)


def test_attention_agrees_with_torchs_own():
    torch.manual_seed(0)
    layer, theirs = CrossLayer(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    parts = (layer.query, layer.key, layer.value)
    theirs.in_proj_weight.data = torch.cat([part.weight for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias for part in parts])
    theirs.out_proj.load_state_dict(layer.out.state_dict())
    x, source = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    padding = torch.arange(5) >= torch.tensor([5, 3, 1])[:, None]
    key = layer.source_norm(source)
    found, _ = theirs(layer.norm(x), key, key, key_padding_mask=padding)
    wanted = x + found
    wanted = wanted + layer.forth(layer.last_norm(wanted))
    score = torch.zeros(3, 5).masked_fill(padding, -math.inf)
    torch.testing.assert_close(layer(x, source, score), wanted)


@pytest.fixture
def cross_modal():
    """Text of two steps and a third past its length, audio of one; tokens are the steps themselves."""
    fusion = CrossModal({"audio": 2, "text": 2}, 2, heads=1)
    for m in ("audio", "text"):
        fusion.layers[m] = cross_layer()
        fusion.project[m].weight.data, fusion.project[m].bias.data = torch.eye(2), torch.zeros(2)
        nn.init.zeros_(fusion.kind[m])
    set_to(fusion.absent["text"], [7.0, 8.0])
    steps = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 50.0]]])
    text = Encoded(steps, torch.zeros(1, 2), torch.tensor([[1.0, 1.0, 0.0]]))
    audio = Encoded(torch.tensor([[[20.0, 30.0]]]), torch.zeros(1, 2), torch.ones(1, 1))
    return fusion, {"audio": audio, "text": text}


def test_cross_modal_attention_adds_the_mean_of_the_others_steps(cross_modal, monkeypatch):
    def nowhere(steps, dim, _):
        return torch.zeros(steps, dim)

    monkeypatch.setattr("mmpipe.model.fusions.attention.positions", nowhere)
    fusion, encoded = cross_modal
    both = fusion(encoded, {"audio": YES, "text": YES})
    torch.testing.assert_close(both, torch.tensor([[20 + 2.0, 30 + 4, 2 + 20, 4 + 30]]))
    alone = fusion(encoded, {"audio": YES, "text": NO})  # the absent token: to audio, and in text's place
    torch.testing.assert_close(alone, torch.tensor([[20 + 7.0, 30 + 8, 7, 8]]))
    half = fusion(encoded, {"audio": YES, "text": HALF})
    torch.testing.assert_close(half, torch.tensor([[22.0, 34, (7 + 22) / 2, (8 + 34) / 2]]))
    assert fusion(encoded, {"audio": NO, "text": NO}).tolist() == [[0, 0, 7, 8]]


def test_a_modality_that_is_alone_looks_at_itself():
    fusion = CrossModal({"text": 2}, 2, heads=1)
    fusion.layers["text"] = cross_layer()
    fusion.project["text"].weight.data, fusion.project["text"].bias.data = torch.eye(2), torch.zeros(2)
    nn.init.zeros_(fusion.kind["text"])
    at = positions(1, 2, torch.device("cpu"))[0]
    found = fusion(of(text=[3.0, 4.0]), {"text": YES})
    torch.testing.assert_close(found[0], 2 * (torch.tensor([3.0, 4.0]) + at))


def test_positions_are_sines_and_cosines():
    found = positions(3, 4, torch.device("cpu"))
    slow = 10_000 ** (-2 / 4)
    wanted = [[math.sin(t), math.sin(t * slow), math.cos(t), math.cos(t * slow)] for t in range(3)]
    torch.testing.assert_close(found, torch.tensor(wanted))


OPINIONS = {"audio": torch.tensor([[1.0, -1.0]]), "text": torch.tensor([[4.0, 2.0]])}


def test_the_average_is_over_those_present():
    fusion = Average()
    assert fusion(OPINIONS, {"audio": YES, "text": YES}).tolist() == [[2.5, 0.5]]
    assert fusion(OPINIONS, {"audio": YES, "text": NO}).tolist() == [[1, -1]]
    assert fusion(OPINIONS, {"audio": NO, "text": NO}).tolist() == [[0, 0]]


def test_an_average_of_logits_is_the_geometric_mean_of_the_chances():
    both = Average()(OPINIONS, {"audio": YES, "text": YES}).softmax(1)
    product = (OPINIONS["audio"].softmax(1) * OPINIONS["text"].softmax(1)).sqrt()
    torch.testing.assert_close(both, product / product.sum())


def test_learned_weights_are_positive_and_sum_to_one_over_those_present():
    fusion = Weighted(["text", "audio"])
    set_to(fusion.log_weight, [math.log(3.0), 0.0])  # audio, text
    wanted = torch.tensor([[(3 * 1.0 + 4) / 4, (3 * -1 + 2) / 4]])
    torch.testing.assert_close(fusion(OPINIONS, {"audio": YES, "text": YES}), wanted)
    torch.testing.assert_close(fusion(OPINIONS, {"audio": NO, "text": YES}), OPINIONS["text"])
    assert fusion.facts() == {"audio": 0.75, "text": 0.25}
    set_to(fusion.log_weight, [-50.0, 50.0])
    torch.testing.assert_close(fusion(OPINIONS, {"audio": YES, "text": NO}), OPINIONS["audio"])


def test_stacking_is_linear_in_all_opinions_and_starts_as_their_mean():
    fusion = Stacking(["text", "audio"], 2)
    assert fusion(OPINIONS, {"audio": YES, "text": YES}).tolist() == [[2.5, 0.5]]
    set_to(fusion.combine["audio"], [[1.0, 2.0], [0.0, 10.0]])
    set_to(fusion.combine["text"], [[0.0, 1.0], [1.0, 0.0]])
    set_to(fusion.bias, [100.0, 0.0])
    set_to(fusion.absent["text"], [-1.0, -2.0])
    assert fusion(OPINIONS, {"audio": YES, "text": YES}).tolist() == [[-1 + 2 + 100, -10 + 4]]
    assert fusion(OPINIONS, {"audio": YES, "text": NO}).tolist() == [[-1 - 2 + 100, -10 - 1]]


def network():
    head = Classify(["audio", "text"], 2, fused_dim=4, classes=2, dropout=0.0)
    for layer in (head.joint, *head.single.values()):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    head.joint.weight.data[0] = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    head.single["text"].weight.data[1] = torch.tensor([1.0, 1.0])
    return Network({"text": Same(), "audio": Same()}, Concat(["audio", "text"], 2), head, dim=2, task=TASK)


def batch(present):
    inputs = {"audio": torch.tensor([[1.0, 2.0]] * 2), "text": torch.tensor([[3.0, 4.0]] * 2)}
    marks = {m: torch.tensor(p) for m, p in present.items()}
    return Batch(
        inputs=inputs,
        lengths={m: p.long() for m, p in marks.items()},
        present=marks,
        target=torch.zeros(2).long(),
        index=torch.arange(2),
        partial=frozenset(m for m, p in present.items() if not all(p)),
    )


def test_a_whole_network_worked_out_by_hand():
    output = network()(batch({"audio": [True, True], "text": [True, False]}))
    assert output.logits.tolist() == [[4321, 7], [21, 0]]
    assert output.by_modality["text"].tolist() == [[0, 7], [0, 0]]


def test_trust_counts_where_another_modality_is_present():
    model = network()
    model.trust.copy_(torch.tensor([0.5, 1.0]))
    output = model(batch({"audio": [True, True], "text": [True, False]}))
    assert output.logits.tolist() == [[4310.5, 7], [21, 0]]


def test_hiding_a_modality_is_the_same_as_not_having_it():
    full = batch({"audio": [True, True], "text": [True, True]})
    hidden = network()(full, {"audio": full.present["audio"], "text": torch.zeros(2).bool()})
    lacking = network()(batch({"audio": [True, True], "text": [False, False]}))
    assert torch.equal(hidden.logits, lacking.logits)


def test_a_modality_that_the_data_do_not_know_at_all_is_absent():
    full = batch({"audio": [True, True], "text": [True, True]})
    del full.inputs["text"]
    output = network()(full, {"audio": full.present["audio"], "text": torch.zeros(2).bool()})
    assert output.logits.tolist() == [[21, 0], [21, 0]]
