"""Byte-pair encoding: round trip, order of fitting, truncation, specials."""

import json

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mmpipe.features import text

TEXTS = ["A red bird sings.", "Two red birds sing in the tree", "a tree", "L'été, un oiseau rouge"]


def fitted(texts=TEXTS, *, vocab_size=320, lowercase=True):
    return text.fit(texts, vocab_size=vocab_size, lowercase=lowercase)


def test_every_text_comes_back():
    tokenizer = fitted(lowercase=False)
    odd = [*TEXTS, "日本語 🐦", "tabs\tand\nlines", "<pad> <mask> &"]
    ids = text.encode(odd, tokenizer, max_tokens=200)
    decode = Tokenizer.from_str(tokenizer).decode
    assert [decode(i.tolist(), skip_special_tokens=False).removeprefix(" ") for i in ids] == odd
    assert all(i.dtype == np.int32 and i.min() > text.MASK for i in ids)


def test_the_order_of_the_texts_does_not_matter():
    assert fitted() == fitted(TEXTS[::-1])
    assert fitted() != fitted(TEXTS[:2])


def test_case_and_composition_are_folded():
    e_acute, e_and_accent = "\u00e9t\u00e9", "e\u0301te\u0301"
    a, b, c = text.encode([e_acute, e_and_accent, e_acute.upper()], fitted(), max_tokens=9)
    assert a.tolist() == b.tolist() == c.tolist()
    lower, upper = text.encode(["bird", "BIRD"], fitted(lowercase=False), max_tokens=9)
    assert lower.tolist() != upper.tolist()


def test_long_texts_are_cut_and_empty_ones_are_empty():
    tokenizer = fitted()
    whole, cut = (text.encode(["red bird " * 50], tokenizer, max_tokens=n)[0] for n in (1_000, 7))
    assert cut.tolist() == whole[:7].tolist()
    assert text.encode(["", "a"], tokenizer, max_tokens=7)[0].shape == (0,)


def test_specials_have_fixed_ids_and_the_size_is_bounded():
    vocabulary = json.loads(fitted())["model"]["vocab"]
    assert (vocabulary["<pad>"], vocabulary["<mask>"]) == (text.PAD, text.MASK)
    assert text.vocab_size(fitted()) == len(vocabulary) <= 320
    assert text.vocab_size(fitted(texts=[])) == 258


def test_facts():
    facts = text.facts(tokenizer_json=fitted(), max_tokens=7)
    assert (facts["shape"], facts["dtype"], facts["pad"], facts["mask"]) == ("[-1]", "int32", "0", "1")


def marked():
    """A tokenizer as published weights have one: marks around a text, cut to 6 and padded to 9 tokens."""
    tokenizer = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "red": 4}, "[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[PAD]"])
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=9)
    return text.adopt(tokenizer.to_str())


def test_the_tokenizer_of_weights_marks_texts_and_neither_pads_nor_cuts_of_itself():
    found = text.encode(["red red", "", "red " * 20, " "], marked(), max_tokens=12)
    assert [ids.tolist() for ids in found[:2]] == [[1, 4, 4, 2], []]
    assert found[2].tolist() == [1, *[4] * 10, 2]
    assert found[3].tolist() == [] and found[3].dtype == np.int32
    assert text.vocab_size(marked()) == 5


def test_marks_that_are_written_in_a_text_are_words():
    assert text.encode(["red [SEP] red"], marked(), max_tokens=12)[0].tolist().count(2) == 1


def test_of_a_dialogue_so_many_turns_are_kept_and_the_question_is_never_cut():
    told = "Q: what is it? A: a cat\nQ: is it old? A: no\nQ: which color?"
    fitted = text.fit([told], vocab_size=400, lowercase=True)

    def read(**how):
        [ids] = text.encode([told], fitted, **how)
        return Tokenizer.from_str(fitted).decode(ids.tolist()).strip()

    assert read(max_tokens=99) == read(max_tokens=99, turns=2) == told.lower()
    assert read(max_tokens=99, turns=1) == "q: is it old? a: no\nq: which color?"
    assert read(max_tokens=99, turns=0) == "q: which color?"
    assert read(max_tokens=4).startswith("q: what") and read(max_tokens=4, turns=2).endswith("which color?")
    facts = text.facts(tokenizer_json=fitted, max_tokens=9, turns=1)
    assert facts["turns"] == "1" and "turns" not in text.facts(tokenizer_json=fitted, max_tokens=9)
