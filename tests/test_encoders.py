import pytest
import torch

from mmpipe.model.encoders import AudioCNN, ImageCNN, Normalize, TextGRU

N_MELS, VOCAB, DIM = 8, 50, 12


def make(name):
    torch.manual_seed(0)
    if name == "audio":
        return AudioCNN(DIM, n_mels=N_MELS), torch.randn(3, 32, N_MELS), torch.tensor([32, 17, 9])
    if name == "image":
        return ImageCNN(DIM), torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8), torch.ones(3).long()
    return TextGRU(DIM, vocab_size=VOCAB), torch.randint(1, VOCAB, (3, 12)), torch.tensor([12, 5, 1])


@pytest.mark.parametrize("name", ["audio", "image", "text"])
def test_a_sequence_and_one_pooled_vector_a_sample(name):
    encoder, x, lengths = make(name)
    encoded = encoder(x, lengths)
    assert encoded.pooled.shape == (3, DIM)
    assert encoded.sequence.shape[::2] == (3, encoder.sequence_dim)
    assert encoded.mask.shape == encoded.sequence.shape[:2]
    steps = {"audio": [8, 5, 3], "image": [1, 1, 1], "text": [12, 5, 1]}[name]  # frames halve twice
    assert encoded.mask.sum(1).tolist() == steps
    assert not encoded.sequence[encoded.mask == 0].any()
    encoded.pooled.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("name", ["audio", "text"])
def test_neither_padding_nor_its_content_changes_the_answer(name):
    encoder, x, lengths = make(name)
    encoder.eval()
    batched = encoder(x, lengths).pooled
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(x[row : row + 1, :length], lengths[row : row + 1]).pooled
        torch.testing.assert_close(batched[row], alone[0], rtol=1e-4, atol=1e-5)
    spoiled = x.clone()
    spoiled[1, int(lengths[1]) :] = 7
    torch.testing.assert_close(encoder(spoiled, lengths).pooled, batched)


def test_text_order_matters_and_the_backward_pass_reads_from_the_last_token():
    encoder, x, lengths = make("text")
    encoder.eval()
    assert not torch.allclose(encoder(x, lengths).pooled[0], encoder(x.flip(1), lengths).pooled[0], atol=1e-6)
    encoder.back.load_state_dict(encoder.ahead.state_dict())
    hidden = encoder(x[:1], lengths[:1]).sequence[0]
    mirrored = encoder(x[:1].flip(1), lengths[:1]).sequence[0]
    size = encoder.ahead.hidden_size
    torch.testing.assert_close(hidden[:, :size], mirrored.flip(0)[:, size:])


def test_a_token_that_no_train_text_has_weighs_nothing():
    encoder, _, lengths = make("text")
    containing = torch.ones(VOCAB, dtype=torch.int64)
    containing[[0, 7]] = 0
    encoder.fit(3, containing)
    encoder.eval()
    seen, unseen = torch.full((1, 1), 5), torch.full((1, 1), 7)
    assert not encoder(unseen, lengths[2:]).sequence.equal(encoder(seen, lengths[2:]).sequence)
    nothing = encoder(torch.zeros(1, 1, dtype=torch.int64), lengths[2:]).pooled
    torch.testing.assert_close(encoder(unseen, lengths[2:]).pooled, nothing)


def test_a_picture_and_its_mirror_image_are_the_same_in_evaluation():
    encoder, x, lengths = make("image")
    encoder.eval()
    torch.testing.assert_close(encoder(x, lengths).pooled, encoder(x.flip(3), lengths).pooled)
    encoder.flip = False
    assert not torch.allclose(encoder(x, lengths).pooled, encoder(x.flip(3), lengths).pooled)


@pytest.mark.parametrize(("axis", "shape"), [(1, (2, 3, 4, 5)), (2, (2, 5, 3))])
def test_normalize_by_hand(axis, shape):
    normalize = Normalize(3, axis=axis)
    normalize.fit(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0]))
    out = normalize(torch.full(shape, 5, dtype=torch.uint8))
    for channel, wanted in enumerate([4.0, 1.5, 0.5]):
        assert (out.select(axis, channel) == wanted).all()
