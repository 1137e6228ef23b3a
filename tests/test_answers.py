"""Decoding of answers against all sequences there are; how good answers are, by hand."""

import itertools
import math
import random

import numpy as np
import pytest
import sacrebleu
import torch

from mmpipe.answers import measures, turns
from mmpipe.model import decoder, generation
from mmpipe.model.decoder import END, START, Decoder
from mmpipe.model.stepwise import Stepwise

V, LIMIT = 5, 3
LETTERS = [token for token in range(V) if token not in (END, START)]
SEQUENCES = [list(s) for n in range(LIMIT + 1) for s in itertools.product(LETTERS, repeat=n)]


@pytest.fixture(scope="module")
def made():
    """A decoder with drawn weights, and three samples of fused sequences of different lengths."""
    torch.manual_seed(0)
    model = Decoder(V, 16, memory_dim=6, max_tokens=LIMIT, layers=2, heads=2).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    memory = torch.randn(3, 4, 6)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    return model, memory, mask


def whole(model, memory, mask, row, tokens):
    """log p of one answer, a step at a time from softmax itself."""
    total = 0.0
    for place, token in enumerate([*tokens, END]):
        with torch.no_grad():
            logits = model(memory[row : row + 1], mask[row : row + 1], torch.tensor([[*tokens[:place], END]]))
        chances = logits[0, -1].double().exp()
        chances[START] = 0
        total += math.log(float(chances[token] / chances.sum()))
    return total


def test_teacher_forcing_is_one_step_after_the_other(made):
    model, memory, mask = made
    tokens = torch.tensor([[2, 3, 4, END], [2, END, END, END], [END] * 4])
    lengths = torch.tensor([4, 2, 1])
    with torch.no_grad():
        logits = model(memory, mask, tokens)
    expected = [whole(*made, row, tokens[row, : lengths[row] - 1].tolist()) for row in range(3)]
    found = decoder.log_likelihood(logits, tokens, lengths)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert float(decoder.loss(logits, tokens, lengths)) == pytest.approx(-sum(expected) / 7, abs=1e-5)


def test_what_comes_later_and_what_is_masked_has_no_influence(made):
    model, memory, mask = made
    tokens = torch.tensor([[2, 3, 4, END]] * 3)
    with torch.no_grad():
        before = model(memory, mask, tokens)
        tokens[:, 2:] = 3
        other = model(torch.where(mask[:, :, None], memory, 9.0), mask, tokens)
        shorter = model(memory[2:, :1], mask[2:, :1], tokens[2:])
    torch.testing.assert_close(other[:, :3], before[:, :3])
    torch.testing.assert_close(shorter[0, :3], before[2, :3])
    assert not torch.allclose(other[:, 3], before[:, 3])
    with torch.no_grad():
        memory = memory.clone()
        memory[0, 3, 0] += 1
        assert not torch.allclose(model(memory, mask, tokens)[0], other[0])


def test_the_beam_finds_the_likeliest_of_all_answers(made):
    model, memory, mask = made
    with torch.no_grad():
        found = generation.beam(Stepwise(model, memory, mask), 3, limit=LIMIT, width=100)
        ranks = generation.rank(model, memory, mask, SEQUENCES, batch=7)
    for row in range(3):
        truth = {tuple(tokens): whole(*made, row, tokens) for tokens in SEQUENCES}
        assert ranks[row].tolist() == pytest.approx(list(truth.values()), abs=1e-5)
        assert {tuple(answer.tokens) for answer in found[row]} == set(truth)
        assert tuple(found[row][0].tokens) == max(truth, key=truth.get)
        for answer in found[row]:
            assert answer.log_prob == pytest.approx(truth[tuple(answer.tokens)], abs=1e-5)
        order = [answer.log_prob for answer in found[row]]
        assert order == sorted(order, reverse=True)


def again(model, memory, mask):
    """The whole decoder over every prefix, as in training."""

    def ask(prefixes, rows):
        tokens = torch.cat([prefixes, torch.full((len(prefixes), 1), END)], 1)
        return decoder.next_log_probs(model(memory[rows], mask[rows], tokens)[:, -1])

    return ask


@pytest.mark.parametrize("heads", [1, 4])
@torch.inference_mode()
def test_what_is_kept_of_a_prefix_says_what_the_whole_prefix_does(heads):
    """The same answers; their samples have memories of other lengths, and end one after the other."""
    torch.manual_seed(heads)
    model = Decoder(9, 16, memory_dim=6, max_tokens=12, layers=3, heads=heads).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.6)
    memory, mask = torch.randn(40, 7, 6), torch.rand(40, 7) < 0.6
    mask[:, 3] = True
    one, other = Stepwise(model, memory, mask), again(model, memory, mask)
    searches = [
        lambda ask: [[best] for best in generation.greedy(ask, 40, limit=12)],
        lambda ask: generation.beam(ask, 40, limit=12, width=5),
        lambda ask: generation.beam(ask, 40, limit=5, width=2, length_power=1.0),
        lambda ask: [[best] for best in generation.greedy(generation.endless(ask), 40, limit=12)],
    ]
    for search in searches:
        found, wanted = search(one), search(other)
        assert [[a.tokens for a in some] for some in found] == [[a.tokens for a in some] for some in wanted]
        for some, same in zip(found, wanted, strict=True):
            assert [a.log_prob for a in some] == pytest.approx([a.log_prob for a in same], abs=1e-4)
    lengths = {len(some[0].tokens) for some in searches[0](one)}
    assert len(lengths) > 2, "all samples end together: nothing is left out on the way"


def test_all_answers_together_and_those_that_are_longer_sum_to_one(made):
    model, memory, mask = made
    total = sum(math.exp(whole(*made, 0, tokens)) for tokens in SEQUENCES)
    longer = 0.0
    for tokens in itertools.product(LETTERS, repeat=LIMIT):
        with torch.no_grad():
            logits = model(memory[:1], mask[:1], torch.tensor([[*tokens, END]]))
        logs = decoder.next_log_probs(logits)[0]
        open_ended = sum(float(logs[place, token]) for place, token in enumerate(tokens))
        longer += math.exp(open_ended) * (1 - math.exp(float(logs[LIMIT, END])))
    assert total + longer == pytest.approx(1, abs=1e-5)


TABLE = torch.tensor(  # of a token, by the one before: the best start is not the start of the best
    [[0.0] * 5, [0.0, 0, 0.5, 0.4, 0.1], [0.3, 0, 0.3, 0.2, 0.2], [0.9, 0, 0.1, 0, 0], [0.5, 0, 0, 0, 0.5]]
).log()


def ask_table(prefixes, _rows):
    last = prefixes[:, -1] if prefixes.shape[1] else torch.full((len(prefixes),), START)
    return TABLE[last]


def test_greedy_and_beam_by_hand():
    """Greedy begins with 2 (0.5), of which no ending is as likely as 3 and the end: 0.4 · 0.9."""
    [greedy] = generation.greedy(ask_table, 1, limit=2)
    assert greedy.tokens == [] or greedy.tokens[0] == 2
    assert math.exp(greedy.log_prob) == pytest.approx(0.5 * 0.3)
    [[best, second]] = generation.beam(ask_table, 1, limit=2, width=2)
    assert best.tokens == [3] and math.exp(best.log_prob) == pytest.approx(0.36)
    assert second.tokens == [2] and math.exp(second.log_prob) == pytest.approx(0.15)
    [[longer, *_]] = generation.beam(ask_table, 1, limit=2, width=4, length_power=3.0)
    assert len(longer.tokens) == 2  # a length counts for more


def test_answers_that_reach_the_limit_end_there_and_the_others_where_they_end():
    def ask(prefixes, rows):
        """Sample 0 never ends by itself, sample 1 at once."""
        told = torch.full((len(rows), 3), -0.1)
        told[:, START] = -math.inf
        told[:, END] = torch.where(rows == 0, -5.0, 0.0)
        return told

    found = generation.greedy(ask, 2, limit=4)
    assert [answer.tokens for answer in found] == [[2, 2, 2, 2], []]
    assert [answer.log_prob for answer in found] == pytest.approx([4 * -0.1 - 5, 0])
    beams = generation.beam(ask, 2, limit=4, width=1)
    assert beams[1] == [found[1]] and generation.greedy(ask, 0, limit=4) == []


def test_measures_by_hand():
    told = ["A red circle", "yes", "two  dogs", "", "no"]
    given = ["a circle, red!", "Yes.", "one dog", "", ""]
    assert measures.exact_match(told, given).tolist() == [0, 1, 0, 1, 0]
    assert measures.token_f1(told, given).tolist() == [1, 1, 0, 1, 0]
    assert measures.token_f1(["the red one"], ["red"])[0] == pytest.approx(2 * 1 / 4)
    assert measures.token_f1(["a a b"], ["a b b"])[0] == pytest.approx(2 * 2 / 6)
    assert measures.bleu(["it is a red circle"], ["it is a red circle"]) == pytest.approx(1)
    assert measures.bleu([], []) == 0
    shorter = measures.bleu(["it is a red circle"], ["it is a red"])
    assert shorter == pytest.approx(math.exp(1 - 5 / 4))  # all n-grams right, the penalty for brevity
    lines = ["there are two red circles", "no it is not"], ["there are two blue circles", "no it is"]
    assert measures.bleu(*lines) == pytest.approx(
        sacrebleu.corpus_bleu(lines[1], [lines[0]], use_effective_order=True).score / 100
    )


def test_bleu_of_counts_that_add_up_is_sacrebleus_of_the_corpus():
    rng, words = random.Random(0), ["the", "a", "red", "blue", "circle", "is", "it", "not", "yes", "no"]
    for _ in range(20):
        told, given = ([" ".join(rng.choices(words, k=rng.randint(1, 7))) for _ in range(9)] for _ in "ab")
        whole = sacrebleu.corpus_bleu(given, [told], use_effective_order=True).score / 100
        counts = measures.bleu_counts(told, given)
        assert measures.bleu_of(counts.sum(axis=0, keepdims=True)).tolist() == [whole]
        twice = measures.bleu_of(np.stack([counts[:4].sum(axis=0), counts[4:].sum(axis=0)]))
        assert twice.tolist() == [measures.bleu(told[:4], given[:4]), measures.bleu(told[4:], given[4:])]


def test_a_dialogue_as_one_text():
    earlier = [("what  is\nit?", "a circle"), ("what color?", "red\n")]
    assert turns.join([], " is it\nred?") == " is it\nred?"
    told = turns.join(earlier, "big \n or not?")
    assert told == "Q: what is it? A: a circle\nQ: what color? A: red\nQ: big or not?"
    assert turns.latest(told, 1) == "Q: what color? A: red\nQ: big or not?"
    assert turns.latest(told, 0) == "Q: big or not?"
    assert turns.latest(told, 2) == turns.latest(told, 9) == told
    assert turns.latest("is it red?", 0) == "is it red?" and turns.latest("", 3) == ""


def test_turns_of_a_cell():
    assert turns.read('[["what?", "a"], ["how?", "b"]]') == [("what?", "a"), ("how?", "b")]
    assert turns.read("[]") == turns.read("  ") == []
    for cell, words in (
        ("[[", "no JSON"),
        ("[" * 9_999, "no JSON"),
        ('"what?"', "no list of"),
        ('[["what?"]]', "no list of"),
        ('[["what?", 3]]', "no list of"),
        ('["q", "a"]', "no list of"),
        ('[{"q": "a", "b": "c"}]', "no list of"),
    ):
        with pytest.raises(ValueError, match=words):
            turns.read(cell)
