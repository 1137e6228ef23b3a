"""The head that writes: what it reads, what it is told in training, and what it says."""

import math

import pytest
import torch

from mmpipe.errors import InvalidError
from mmpipe.model import complexity, decoder, writer
from mmpipe.model.decoder import END
from mmpipe.model.encoders import Encoded
from mmpipe.model.network import build_model
from mmpipe.model.writer import NONE, Design, Writer

WIDTHS, UNITS, DIM = {"image": 3, "text": 5}, 4, 8


def made(**design):
    """A writer with drawn weights, so that its answers differ from sample to sample."""
    torch.manual_seed(0)
    design = Design(**({"tokens": 3, "layers": 1, "heads": 2} | design))
    head = Writer(WIDTHS, DIM, fused_dim=6, units=UNITS, design=design, dropout=0.0).eval()
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=1.5)
    return head


def follow(head, data, target):
    """Logits of each token of a target, as in training, and those tokens with their number."""
    wanted, lengths = writer.tokens(target, head.design.tokens)
    logits = head.train()(*data, target).logits
    told = head.eval()(*data, target).logits
    torch.testing.assert_close(told, writer.judged(logits, wanted))
    return logits, wanted, lengths


def given(samples=4):
    torch.manual_seed(1)
    steps = {"image": 2, "text": 3}
    encoded = {
        m: Encoded(
            torch.randn(samples, steps[m], width), torch.randn(samples, DIM), torch.ones(samples, steps[m])
        )
        for m, width in WIDTHS.items()
    }
    encoded["text"].mask[1, 2] = 0
    return torch.randn(samples, 6), encoded, {m: torch.ones(samples) for m in WIDTHS}


def test_units_become_tokens_with_an_end():
    target = torch.tensor([[1, 3, 2], [2, -1, -1], [-1, -1, -1]])
    found, lengths = writer.tokens(target, 5)
    assert found.tolist() == [[2, 4, 3, END], [3, END, END, END], [END] * 4] and lengths.tolist() == [4, 2, 1]
    cut, lengths = writer.tokens(target, 2)  # the first has no end within what is learnt
    assert cut.tolist() == [[2, 4, 3], [3, END, END], [END] * 3] and lengths.tolist() == [3, 2, 1]


@torch.no_grad()
def test_what_is_masked_or_absent_has_no_influence_and_the_rest_has():
    head, (fused, encoded, weight) = made(), given()
    target = torch.tensor([[1, 2, 3]] * 4)
    before = head(fused, encoded, weight, target).logits
    sequence = encoded["text"].sequence.clone()
    sequence[1, 2] = 99
    other = encoded | {"text": encoded["text"]._replace(sequence=sequence)}
    assert torch.equal(head(fused, other, weight, target).logits, before)
    absent = weight | {"text": torch.tensor([1.0, 1.0, 0.0, 1.0])}
    hidden = head(fused, encoded, absent, target).logits
    assert [torch.allclose(hidden[row], before[row]) for row in range(4)] == [True, True, False, True]
    sequence[2] = -7
    assert torch.equal(head(fused, other, absent, target).logits[2], hidden[2])
    assert not torch.allclose(head(fused + 1, encoded, weight, target).logits, before)
    nothing = dict.fromkeys(WIDTHS, torch.zeros(4))
    assert head(fused, encoded, nothing, target).logits.isfinite().all()


@torch.no_grad()
def test_what_is_written_is_what_the_decoder_finds_likeliest_when_it_is_told_that():
    head, data = made(), given()
    told = head(*data).logits
    assert told.shape == (4, 1, 1 + 3) and len({tuple(row) for row in told[:, 0, 1:].tolist()}) > 1
    for row, sample in enumerate(told.tolist()):
        [(units, log_prob)] = writer.answers(sample)
        target = torch.tensor([units + [-1] * (3 - len(units))] * 4)
        logits, tokens, lengths = follow(head, data, target)
        best = decoder.next_log_probs(logits)[row].argmax(1)
        assert torch.equal(best[: len(units)], tokens[row, : len(units)])
        assert log_prob == pytest.approx(
            float(decoder.log_likelihood(logits, tokens, lengths)[row]), abs=1e-5
        )


@torch.no_grad()
def test_a_beam_tells_several_answers_and_none_is_less_likely_than_the_greedy_one():
    data = given()
    greedy, beams = made()(*data).logits, made(search="beam", width=3)(*data).logits
    assert beams.shape == (4, 3, 4)
    for one, several in zip(greedy.tolist(), beams.tolist(), strict=True):
        found = writer.answers(several)
        assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
        assert found[0][1] >= writer.answers(one)[0][1] - 1e-6
        assert len({tuple(units) for units, _ in found}) == 3


@torch.no_grad()
def test_of_a_beam_that_finds_fewer_answers_the_rest_are_none():
    """Of at most one unit there are four answers, the empty one among them."""
    head, data = made(tokens=1, search="beam", width=6), given()
    told = head(*data).logits
    assert told.shape == (4, 6, 2) and (told[:, 4:, 0] == NONE).all()
    assert all(len(writer.answers(sample)) == 4 for sample in told.tolist())


@torch.no_grad()
def test_the_answers_of_a_closed_set_are_ranked_and_their_chances_sum_to_one():
    closed, data = [[1], [2, 3], [3, 3, 1]], given()
    head = made(search="closed", closed=closed, width=9)
    told = head(*data).logits.tolist()
    for row, sample in enumerate(told):
        found = {tuple(units): math.exp(log_prob) for units, log_prob in writer.answers(sample)}
        assert set(found) == {tuple(one) for one in closed} and sum(found.values()) == pytest.approx(1)
        logs = []
        for units in found:
            target = torch.tensor([[*units, *[-1] * (3 - len(units))]] * 4)
            logs.append(float(decoder.log_likelihood(*follow(head, data, target))[row]))
        assert list(found.values()) == pytest.approx(torch.tensor(logs).softmax(0).tolist(), abs=1e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)
    assert made(search="closed", closed=closed, width=2)(*data).logits.shape == (4, 2, 4)


def test_no_sample_has_no_answer():
    fused, encoded, weight = given(2)
    none = {m: Encoded(*(part[:0] for part in one)) for m, one in encoded.items()}
    for search in ({}, {"search": "beam"}, {"search": "closed", "closed": [[1]]}):
        told = made(**search)(fused[:0], none, {m: of[:0] for m, of in weight.items()}).logits
        assert told.shape[0] == 0 and told.shape[2] == 4


def test_a_design_that_contradicts_itself_is_told():
    fine = {"tokens": 3, "heads": 2, "search": "closed", "closed": [[1, 2], [3]]}
    assert writer.design(fine, 8, units=4) == Design(**fine)
    for change, words in (
        ({"tokens": "many"}, "has a writer that is not valid at tokens"),
        ({"more": 1}, "has a writer that is not valid at more"),
        ({"search": "guess"}, "has a writer that is not valid at search"),
        ({"tokens": 0}, "has a writer that is not valid at tokens"),
        ({"heads": 3}, "has a writer of 3 attention heads for 8 dimensions"),
        ({"closed": []}, "closed set is none of its units"),
        ({"closed": [[1], [4]]}, "closed set is none of its units"),
        ({"closed": [[0]]}, "closed set is none of its units"),
        ({"closed": [[1], []]}, "closed set is none of its units"),
    ):
        with pytest.raises(InvalidError, match=words):
            writer.design(fine | change, 8, units=4)


def test_what_a_prediction_costs_is_told_of_the_longest_answer_whatever_the_weights_are():
    facts = {"image": {"shape": [16, 16, 3], "dtype": "uint8"}}
    found = {}
    for tokens in (2, 5):
        for seed in range(3):
            torch.manual_seed(seed)
            plan = {"modalities": ["image"], "classes": UNITS, "dim": DIM, "dropout": 0.0, "task": "answer"}
            network = build_model(**plan, writer={"tokens": tokens, "layers": 1, "heads": 2}).eval()
            torch.nn.init.normal_(network.head.decoder.head.bias, std=9.0)
            found.setdefault(tokens, set()).add(complexity.measure(network, facts)["multiply_adds"])
            assert not network.head.longest
    assert {len(one) for one in found.values()} == {1} and min(found[5]) > min(found[2])
