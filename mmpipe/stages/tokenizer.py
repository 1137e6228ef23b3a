"""Stage `tokenizer`: token ids by a byte-pair encoding fitted on the train split, or as weights have them."""

import pyarrow.compute as pc

from mmpipe import files, paths, schema, tables
from mmpipe.features import text
from mmpipe.params import load
from mmpipe.stages import pretrained
from mmpipe.stages.process import run


def main() -> None:
    """Write `data/tokenizer.json`."""
    settings = load(paths.PARAMS).text
    if (adopted := pretrained.tokenizer(settings)) is not None:
        tokenizer = text.adopt(adopted)
        files.write_bytes(paths.TOKENIZER, tokenizer.encode())
        print(f"tokenizer: of {settings.pretrained}, {text.vocab_size(tokenizer)} tokens")  # noqa: T201
        return
    splits = tables.read(paths.SPLITS, schema.SPLIT)
    train = splits.filter(pc.equal(splits["split"], "train"))["id"]
    samples = tables.read(paths.SAMPLES, schema.SAMPLES)
    texts = samples.filter(pc.is_in(samples["id"], train.combine_chunks()))["text"].drop_null().to_pylist()
    tokenizer = text.fit(texts, vocab_size=settings.vocab_size, lowercase=settings.lowercase)
    files.write_bytes(paths.TOKENIZER, tokenizer.encode())
    print(f"tokenizer: {len(texts)} train texts, {text.vocab_size(tokenizer)} tokens")  # noqa: T201


if __name__ == "__main__":
    run(main)
