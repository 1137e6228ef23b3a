import torch

from mmpipe import augment, runtime
from mmpipe.augment import Settings
from mmpipe.batches import DROPPED, Batch

ALL = Settings(
    image_flip=0.5,
    image_crop=0.2,
    image_rotate=15.0,
    image_color=0.2,
    image_hue=0.1,
    image_erase=0.5,
    audio_gain=0.3,
    audio_stretch=0.2,
    audio_time_mask=0.4,
    audio_mel_mask=0.4,
    token_dropout=0.3,
)


def test_nothing_asked_nothing_changed():
    picture = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(augment.image(picture, Settings()), picture.float())
    mel, lengths = torch.randn(4, 16, 8), torch.full((4,), 16)
    same, still = augment.audio(mel, lengths, Settings())
    assert torch.equal(same, mel) and torch.equal(still, lengths)


def test_a_certain_flip_is_the_mirror_image():
    picture = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    flipped = augment.image(picture, Settings(image_flip=1.0))
    torch.testing.assert_close(flipped, picture.float().flip(3), rtol=0, atol=1e-2)


def test_images_stay_in_range_and_channels_last_and_differ_from_one_another():
    runtime.seed_all(0)
    picture = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8).expand(6, -1, -1, -1)
    out = augment.image(picture, ALL)
    assert out.min() >= 0 and out.max() <= 255
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert len({row.numpy().tobytes() for row in out}) == 6


def test_masks_and_tempo_respect_the_lengths():
    runtime.seed_all(0)
    lengths = torch.tensor([40, 20, 1, 0])
    mel = torch.randn(4, 40, 8)
    out, longer = augment.audio(mel, lengths, ALL)
    assert (longer <= 40).all() and longer[3] == 0 and (longer[:3] > 0).all()
    for row, length in zip(out, longer.tolist(), strict=True):
        assert not row[length:].any()
    assert out.isfinite().all()


def test_a_wave_is_played_faster_or_slower_and_silenced_in_two_spans():
    runtime.seed_all(0)
    lengths = torch.tensor([4_000, 2_000, 1, 0])
    pcm = (8_192 * torch.sin(torch.arange(4_000) * 0.05)).short().expand(4, -1)
    same, still = augment.wave(pcm, lengths, Settings())
    assert torch.equal(still, lengths) and torch.equal(same[0], pcm[0] / 32_768) and not same[1, 2_000:].any()
    found, longer = augment.wave(pcm, lengths, Settings(audio_stretch=0.2))
    assert (longer <= 4_000).all() and longer[3] == 0 and longer[1] != 2_000
    speed = 2_000 / longer[1]  # within a sample
    want = 0.25 * torch.sin(torch.arange(500) * speed * 0.05)
    torch.testing.assert_close(found[1, :500], want, rtol=0, atol=0.01)
    hidden, _ = augment.wave(
        torch.full((50, 4_000), 99), torch.full((50,), 4_000), Settings(audio_time_mask=0.4)
    )
    share = (hidden == 0).float().mean(1)
    assert 0.05 < share.mean() < 0.25 and share.max() <= 0.4
    batch = Batch({"audio": pcm}, {"audio": lengths}, {}, lengths, lengths, frozenset())
    changed = augment.apply(batch, ALL)
    assert changed.inputs["audio"].dtype == torch.float32 and changed.lengths["audio"][0] != 4_000


def test_spec_augment_hides_at_most_the_share_and_puts_the_mean_there():
    runtime.seed_all(1)
    mel = torch.arange(100.0)[None, :, None].expand(50, 100, 8).contiguous()
    out, _ = augment.audio(mel, torch.full((50,), 100), Settings(audio_time_mask=0.4))
    changed = out != mel
    assert changed.any() and changed.float().mean((1, 2)).max() <= 0.41
    torch.testing.assert_close(out[changed], torch.full_like(out[changed], 49.5))


def test_token_dropout_hits_about_its_share_and_only_within_the_text():
    runtime.seed_all(2)
    tokens, lengths = torch.full((200, 20), 5), torch.full((200,), 10)
    out = augment.tokens(tokens, lengths, 0.3)
    assert (out[:, 10:] == 5).all()
    assert 0.25 < (out[:, :10] == DROPPED).float().mean() < 0.35


def test_modality_dropout_hides_about_its_share_and_never_the_last_one():
    runtime.seed_all(3)
    present = {m: torch.rand(2000) < 0.7 for m in ("audio", "image", "text")}
    kept = augment.drop_modalities(present, 0.5)
    had, has = (torch.stack([marks[m] for m in sorted(present)], 1) for marks in (present, kept))
    assert not (has & ~had).any()
    assert torch.equal(has.any(1), had.any(1))
    all_three = had.all(1)
    alone = has[all_three & (has.sum(1) == 1)].float().mean(0)
    assert (alone - 1 / 3).abs().max() < 0.1  # whoever stays is drawn fairly
    assert all(torch.equal(present[m], marks) for m, marks in augment.drop_modalities(present, 0.0).items())


def test_the_same_seed_gives_the_same_change_whatever_ran_before():
    mel, lengths = torch.randn(4, 16, 8), torch.full((4,), 16)
    runtime.seed_all(7, 1, 2)
    first, _ = augment.audio(mel, lengths, ALL)
    torch.rand(100)
    runtime.seed_all(7, 1, 2)
    again, _ = augment.audio(mel, lengths, ALL)
    runtime.seed_all(7, 1, 3)
    other, _ = augment.audio(mel, lengths, ALL)
    assert torch.equal(first, again) and not torch.equal(first, other)
