"""A small GPT-2 learns to write Python, from the sources of its standard library.

    mountkit run s3://BUCKET/PREFIX DIR -- python -m mountkit.examples.causal_lm DIR

The same command, submitted again, goes on from the newest proven checkpoint.
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

import mountkit

END = "<|endoftext|>"
VOCABULARY = 2000
BLOCK = 64
CHARACTERS = 400_000


def read_text() -> str:
    """The beginning of the standard library's sources."""
    text = ""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_text(encoding="utf-8") + END
        if len(text) > CHARACTERS:
            break
    return text[:CHARACTERS]


def make_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as GPT-2's, learned from the text itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END
    )


def main() -> None:
    """Train, from the newest proven checkpoint if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output_dir", help="a directory in a mount")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save-steps", type=int, default=50)
    options = parser.parse_args()

    set_seed(1)
    text = read_text()
    tokenizer = make_tokenizer(text)
    tokens = tokenizer(text)["input_ids"]
    blocks = [tokens[at : at + BLOCK] for at in range(0, len(tokens) - BLOCK, BLOCK)]
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=BLOCK,
            n_embd=128,
            n_layer=2,
            n_head=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=options.output_dir,
            max_steps=options.steps,
            per_device_train_batch_size=16,
            learning_rate=2e-3,
            logging_steps=10,
            save_steps=options.save_steps,
            save_total_limit=2,
            report_to="none",
        ),
        train_dataset=[{"input_ids": block} for block in blocks],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=[mountkit.CheckpointCallback(), mountkit.RunLogCallback()],
    )
    trainer.train(resume_from_checkpoint=mountkit.latest_checkpoint(options.output_dir))
    trainer.save_model(str(Path(options.output_dir) / "final"))

    prompt = tokenizer("import ", return_tensors="pt").to(model.device)
    written = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    print(tokenizer.decode(written[0]))


if __name__ == "__main__":
    main()
