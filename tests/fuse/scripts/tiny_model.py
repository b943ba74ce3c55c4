"""Makes a model of a config, its tokenizer, and a data set, as files: nothing is downloaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed

WORDS = [
    "the",
    "model",
    "saves",
    "each",
    "checkpoint",
    "and",
    "goes",
    "on",
    "from",
    "the",
    "newest",
    "one",
    "that",
    "is",
    "proven",
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def main() -> None:
    top = Path(sys.argv[1])
    vocabulary = {
        word: number for number, word in enumerate([*SPECIAL.values(), *sorted({*WORDS})])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(top / "model")
    set_seed(1)
    sizes = {"vocab_size": len(vocabulary), "n_positions": 32, "n_embd": 16, "n_layer": 1}
    config = GPT2Config(**sizes, n_head=2, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(top / "model")
    data = top / "data"
    data.mkdir()
    rows = [{"text": " ".join(WORDS[start:] + WORDS[:start])} for start in range(len(WORDS))]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 4))


if __name__ == "__main__":
    main()
