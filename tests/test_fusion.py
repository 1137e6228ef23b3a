import torch
from torch import nn

from mmpipe.batches import Batch
from mmpipe.model.encoders import Encoded
from mmpipe.model.fusion import Concat
from mmpipe.model.network import Network
from mmpipe.tasks.classify import TASK, Classify

YES, HALF, NO = torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([0.0])


class Same(nn.Module):
    """Pooled = the input."""

    def forward(self, x, lengths):
        return Encoded(x[:, None], x)


def test_concat_is_side_by_side_in_sorted_order_with_a_vector_for_what_is_absent():
    fusion = Concat(["text", "audio"], 2)
    fusion.absent["text"].data = torch.tensor([8.0, 9.0])
    pooled = {"text": torch.tensor([[3.0, 4.0]]), "audio": torch.tensor([[1.0, 2.0]])}
    assert fusion(pooled, {"text": YES, "audio": YES}).tolist() == [[1, 2, 3, 4]]
    assert fusion(pooled, {"text": NO, "audio": YES}).tolist() == [[1, 2, 8, 9]]
    assert fusion(pooled, {"text": HALF, "audio": YES}).tolist() == [[1, 2, 5.5, 6.5]]
    assert fusion.out_dim == 4


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
