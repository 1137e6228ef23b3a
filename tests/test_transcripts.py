"""Units, language model, expected words, decoding and error rates: against brute force and by hand."""

import itertools
import math
import unicodedata
from collections import defaultdict

import jiwer
import numpy as np
import pytest

from mmpipe.errors import InvalidError
from mmpipe.transcripts import ctc, error_rate, form, ngram, units
from mmpipe.transcripts.scorer import Expected, Language

LINES = [
    "Un ballon rouge.",
    "L’arc-en-ciel",
    "une abeille",
    "Un chat, un chien",
    "un ballon d'or",
    "une arche",
]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("  L’Arc-en-ciel !", "l'arc en ciel"),
        (unicodedata.normalize("NFD", "Éléphant ÇA"), "éléphant ça"),
        ("'quoted' 3,5 km", "quoted 3 5 km"),
        ("?!… —", ""),
        ("Straße ΟΔΟΣ", "straße οδος"),
    ],
)
def test_the_normal_form_of_a_transcript(text, wanted):
    assert form.normalise(text) == wanted == form.normalise(wanted)


@pytest.mark.parametrize("kind", units.KINDS)
def test_units_give_back_the_normal_form_and_do_not_depend_on_the_order(kind):
    fitted = units.fit(LINES, kind=kind, size=40)
    again = units.fit(LINES[::-1], kind=kind, size=40)
    assert fitted == again == units.Units.from_json(fitted.to_json())
    assert units.BLANK not in fitted.encode(LINES[0]) and fitted.size == len(fitted.texts) + 1
    for line in LINES:
        ids = fitted.encode(line)
        assert fitted.decode(ids) == form.normalise(line)
        assert units.Units.from_json(fitted.to_json()).encode(line) == ids
    assert fitted.decode(fitted.encode("zut un ballon")) == "ut un ballon"  # no z in train


def test_pieces_of_words_are_fewer_than_characters_and_never_cross_a_space():
    fitted = units.fit(LINES, kind="bpe", size=40)
    assert 20 < fitted.size <= 41
    assert all(" " not in text[1:] for text in fitted.texts)
    longest = fitted.encode("un ballon")
    assert len(longest) < len("un ballon") and fitted.texts[longest[0] - 1] == " un"


def test_transcripts_without_letters_and_units_of_another_kind_are_refused():
    with pytest.raises(InvalidError, match="no transcript of the train split has a letter"):
        units.fit(["?", " "])
    for text in ("{}", "[1]", '{"texts": [""], "merges": []}', '{"texts": ["a", "a"], "merges": []}', "no"):
        with pytest.raises(InvalidError, match="bundle-format"):
            units.Units.from_json(text)


def textbook_kneser_ney(sentences, order, size):
    """p(unit | context) straight from the formulas, recursive, over all n-grams of every length."""
    start, end = -1, 0
    grams = [defaultdict(int) for _ in range(order + 1)]  # by length; sentences with one start
    for sentence in sentences:
        padded = [start, *sentence, end]
        for length in range(1, order + 1):
            for at in range(len(padded) - length + 1):
                grams[length][tuple(padded[at : at + length])] += 1

    def counts(length):
        found = {}
        for gram, count in grams[length].items():
            if gram[-1] == start:
                continue
            own = length == order or gram[0] == start
            found[gram] = count if own else len({g[0] for g in grams[length + 1] if g[1:] == gram})
        return found

    tables = {length: counts(length) for length in range(1, order + 1)}

    def p(unit, context):
        table = tables[len(context) + 1]
        lower = p(unit, context[1:]) if context else 1 / size
        ones, twos = (sum(c == n for c in table.values()) for n in (1, 2))
        discount = ones / (ones + 2 * twos) if ones and twos else 0.5
        here = {gram: count for gram, count in table.items() if gram[:-1] == context}
        if not here:
            return lower
        total = sum(here.values())
        own = max(here.get((*context, unit), 0) - discount, 0) / total
        return own + discount * len(here) / total * lower

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_language_model_is_the_textbooks_and_sums_to_one(order):
    rng = np.random.default_rng(order)
    size = 5
    sentences = [rng.integers(1, 4, rng.integers(1, 6)).tolist() for _ in range(12)]  # never unit 4
    model = ngram.fit(sentences, order=order, size=size)
    p = textbook_kneser_ney(sentences, order, size)
    seen = 0
    for length in range(order):
        for context in itertools.product((-1, 1, 2, 3, 4), repeat=length):
            if -1 in context[1:] or (length < order - 1 and context[:1] != (-1,)):
                continue
            found = np.exp(model.log_probs(context))
            assert found.sum() == pytest.approx(1)
            np.testing.assert_allclose(found, [p(unit, context) for unit in range(size)], rtol=1e-9)
            seen += 1
    assert seen
    again = ngram.Ngram.from_arrays(model.to_arrays())
    assert again.log_prob([1, 2]) == model.log_prob([1, 2])


def test_a_bigram_model_by_hand():
    """Of "a" and "ab", bigrams ^a 2, a$ 1, ab 1, b$ 1: a comes after 1 unit, b after 1, the end after 2."""
    model = ngram.fit([[1], [1, 2]], order=2, size=3)
    end, a, b = (2 - 1 / 2) / 4, (1 - 1 / 2) / 4, (1 - 1 / 2) / 4  # discount 2 / (2 + 2 · 1)
    end, a, b = (p + 1 / 2 * 3 / 4 / 3 for p in (end, a, b))  # what is left goes to all three alike
    d = 3 / (3 + 2 * 1)
    np.testing.assert_allclose(
        np.exp(model.log_probs((1,))), [(1 - d) / 2 + d * end, d * a, (1 - d) / 2 + d * b]
    )
    np.testing.assert_allclose(
        np.exp(model.log_probs((-1,))), [d / 2 * end, (2 - d) / 2 + d / 2 * a, d / 2 * b]
    )


def test_a_sentence_like_the_train_splits_is_likelier():
    fitted = units.fit(LINES)
    model = ngram.fit([fitted.encode(line) for line in LINES], order=4, size=fitted.size)
    assert model.perplexity([fitted.encode("une abeille")]) < 3
    assert model.perplexity([fitted.encode("llieeba nu")]) > 10


def collapse(path):
    return tuple(unit for unit, _ in itertools.groupby(path) if unit)


def by_brute_force(log_probs):
    """log p of every text: the sum over all paths."""
    frames, size = log_probs.shape
    found = defaultdict(lambda: -np.inf)
    for path in itertools.product(range(size), repeat=frames):
        found[collapse(path)] = np.logaddexp(found[collapse(path)], log_probs[np.arange(frames), path].sum())
    return found


def random_frames(seed, frames, size, sharpness=1.5):
    scores = np.random.default_rng(seed).normal(0, sharpness, (frames, size))
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("frames", "size"), [(1, 3), (4, 3), (5, 4), (6, 3)])
def test_the_beam_is_brute_force_over_all_paths(seed, frames, size):
    log_probs = random_frames(seed, frames, size)
    truth = by_brute_force(log_probs)
    found = ctc.beam_search(log_probs, width=10_000, min_log_prob=-np.inf)
    assert {one.ids for one in found} == set(truth)
    for one in found:
        assert one.log_prob == pytest.approx(truth[one.ids]) and one.score == pytest.approx(one.log_prob)
    assert found[0].ids == max(truth, key=truth.get)
    assert np.logaddexp.reduce([one.log_prob for one in found]) == pytest.approx(0)


@pytest.mark.parametrize("seed", range(5))
def test_with_a_language_model_and_expected_words_the_best_is_brute_forces(seed):
    some = units.Units((" ", "a", "b"))
    model = ngram.fit([some.encode("ab a"), some.encode("b ab")], order=3, size=some.size)
    scorers = [Language(model, 0.7, bonus=0.4), Expected(["ab", "bb"], some, bonus=0.9)]
    log_probs = random_frames(seed, 5, some.size)
    truth = {}
    for ids, log_prob in by_brute_force(log_probs).items():
        words = "".join(some.texts[i - 1] for i in ids).split()
        expected = 0.9 * 2 * sum(word in ("ab", "bb") for word in words)
        truth[ids] = log_prob + 0.7 * model.log_prob(ids) + 0.4 * len(ids) + expected
    found = ctc.beam_search(log_probs, scorers=scorers, width=10_000, min_log_prob=-np.inf)
    assert len(found) == len(truth)
    assert found[0].ids == max(truth, key=truth.get)
    for one in found:
        assert one.score == pytest.approx(truth[one.ids])
    narrow = ctc.beam_search(log_probs, scorers=scorers, width=8)
    assert len(narrow) <= 8 and narrow[0].score <= found[0].score + 1e-9


def by_steps(scorer, ids):
    state, total = scorer.start, 0.0
    for unit in ids:
        total += float(scorer.scores(state)[unit])
        state = scorer.after(state, unit)
    return total + scorer.end(state)


@pytest.mark.parametrize("kind", units.KINDS)
@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ("un chat", 4),
        ("chats", 0),
        ("chat", 4),
        ("cha", 0),
        ("chaton chat", 10),
        ("un chien chaud", 5),
        ("pacha", 0),
    ],
)
def test_only_whole_expected_words_count(kind, text, characters):
    lines = ["un chat", "chats chaton", "un chien chaud", "pacha chat"]
    some = units.fit(lines, kind=kind, size=30)
    scorer = Expected(["Chat", "chaton", "CHIEN"], some, bonus=2.0)
    assert by_steps(scorer, some.encode(text)) == pytest.approx(2.0 * characters)


def test_expected_words_turn_the_balance():
    some = units.fit(["un chat", "un char"])
    heard = [some.encode(letter)[0] if letter != "-" else 0 for letter in "c-ha-r"]
    log_probs = np.full((len(heard), some.size), -8.0)
    log_probs[np.arange(len(heard)), heard] = -0.1
    log_probs[-1, some.encode("t")[0]] = -0.6
    assert some.decode(ctc.greedy(log_probs)) == "char"
    assert some.decode(ctc.beam_search(log_probs)[0].ids) == "char"
    wanted = Expected(["chat"], some, bonus=0.3)
    assert some.decode(ctc.beam_search(log_probs, scorers=[wanted])[0].ids) == "chat"


def test_greedy_is_the_text_of_the_likeliest_path():
    for seed in range(20):
        log_probs = random_frames(seed, 7, 4)
        assert ctc.greedy(log_probs) == collapse(log_probs.argmax(1).tolist())
    assert ctc.greedy(np.zeros((0, 4))) == ()
    assert ctc.beam_search(np.zeros((0, 4)))[0] == ((), 0.0, 0.0)


def test_frames_that_a_text_needs():
    assert (
        ctc.needed_frames(()) == 0 and ctc.needed_frames((1, 2, 1)) == 3 and ctc.needed_frames((1, 1, 1)) == 5
    )


def test_a_beam_of_certain_frames_keeps_the_one_text():
    log_probs = np.full((6, 4), -np.inf)
    log_probs[np.arange(6), [1, 1, 0, 1, 2, 2]] = 0.0
    found = ctc.beam_search(log_probs)
    assert found == [((1, 1, 2), 0.0, 0.0)]


def test_error_rates_are_jiwers_and_an_empty_reference_counts_insertions():
    told = ["Un ballon rouge.", "L'arc-en-ciel", "?", "une abeille"]
    heard = ["un balon", "l'arc en ciel", "un mot", ""]
    some = error_rate.words(told, heard)
    np.testing.assert_array_equal(some.edits, [2, 0, 2, 2])
    np.testing.assert_array_equal(some.lengths, [3, 3, 0, 2])
    assert some.rate == pytest.approx(6 / 8)
    rest = [0, 1, 3]
    forms = [[form.normalise(texts[i]) for i in rest] for texts in (told, heard)]
    letters = error_rate.characters(told, heard)
    assert (letters.edits[rest].sum() / letters.lengths[rest].sum()) == pytest.approx(jiwer.cer(*forms))
    assert letters.edits[2] == len("un mot") and math.isnan(error_rate.words(["!"], [""]).rate)


def test_a_language_model_that_forgets_says_the_same(monkeypatch):
    """A server asks for ever: contexts that were asked for are kept, but not all of them."""
    fitted = units.fit(LINES)
    sentences = [fitted.encode(line) for line in LINES]
    model = ngram.fit(sentences, order=3, size=fitted.size)
    wanted = [model.log_prob(one) for one in sentences]
    monkeypatch.setattr(ngram, "MOST_KNOWN", 2)
    short = ngram.fit(sentences, order=3, size=fitted.size)
    assert [short.log_prob(one) for one in sentences] == wanted
    assert len(model._known) > 2 >= len(short._known)
