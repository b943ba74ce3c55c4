"""A small BERT learns which module of Python's standard library a line of code is from.

    mountkit run s3://BUCKET/PREFIX DIR -- python -m mountkit.examples.sequence_classification DIR

The same command, submitted again, goes on from the newest proven checkpoint.
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

import mountkit

MODULES = ["argparse", "ast", "datetime", "decimal", "subprocess", "tarfile", "threading", "typing"]
VOCABULARY = 2000
LONGEST = 48
LINES = 600


def read_lines() -> tuple[list[str], list[int]]:
    """Lines of code, and for each the number of the module that it is from."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    lines: list[str] = []
    labels: list[int] = []
    for number, module in enumerate(MODULES):
        # Some are a folder in a later Python, or have another name for their code.
        places = [folder / f"{module}.py", folder / f"_py{module}.py", folder / module]
        files = [each for place in places for each in (place.glob("*.py"), [place])]
        text = "\n".join(
            path.read_text(encoding="utf-8") for found in files for path in found if path.is_file()
        )
        chosen = [line.strip() for line in text.splitlines() if len(line.strip()) > 20][:LINES]
        lines += chosen
        labels += [number] * len(chosen)
    return lines, labels


def make_tokenizer(lines: list[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer as BERT's, learned from the lines themselves."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        lines, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special)
    )
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", special.index("[SEP]")), ("[CLS]", special.index("[CLS]"))
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=LONGEST,
    )


def accuracy(prediction: Any) -> dict[str, float]:
    """The share of the lines that were put to the right module."""
    logits, labels = prediction
    return {"accuracy": float((logits.argmax(-1) == labels).mean())}


def main() -> None:
    """Train, from the newest proven checkpoint if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output_dir", help="a directory in a mount")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save-steps", type=int, default=50)
    options = parser.parse_args()

    set_seed(1)
    lines, labels = read_lines()
    tokenizer = make_tokenizer(lines)
    encoded = tokenizer(lines, truncation=True)["input_ids"]
    rows = [{"input_ids": ids, "labels": label} for ids, label in zip(encoded, labels, strict=True)]
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=LONGEST,
            num_labels=len(MODULES),
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=options.output_dir,
            max_steps=options.steps,
            per_device_train_batch_size=32,
            learning_rate=1e-3,
            logging_steps=10,
            eval_strategy="steps",
            eval_steps=options.save_steps,
            save_steps=options.save_steps,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            report_to="none",
        ),
        # Every eighth line is kept for the evaluation.
        train_dataset=[row for number, row in enumerate(rows) if number % 8],
        eval_dataset=rows[::8],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=accuracy,
        callbacks=[mountkit.CheckpointCallback(), mountkit.RunLogCallback()],
    )
    trainer.train(resume_from_checkpoint=mountkit.latest_checkpoint(options.output_dir))
    trainer.save_model(str(Path(options.output_dir) / "final"))
    print(f"accuracy: {trainer.evaluate()['eval_accuracy']:.2f}")


if __name__ == "__main__":
    main()
