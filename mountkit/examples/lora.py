"""LoRA (pip install peft): a Llama that stays as it is, and adapters that learn docstrings.

    mountkit run s3://BUCKET/PREFIX DIR -- python -m mountkit.examples.lora DIR

The same command, submitted again, goes on from the newest proven checkpoint. A checkpoint has the
adapters only; the model below them is made, or loaded, anew at each start, and has to be the same.
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
from pathlib import Path

from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

import mountkit

END = "<|end|>"
VOCABULARY = 2000
LONGEST = 64
DOCSTRINGS = 2000


def read_docstrings() -> list[str]:
    """The docstrings of functions and classes of the standard library."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node)
                if text:
                    found.append(f"{node.name}: {text}{END}")
        if len(found) > DOCSTRINGS:
            break
    return found[:DOCSTRINGS]


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, learned from the texts themselves."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=LONGEST
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The model below the adapters: in your script, ``from_pretrained``."""
    # The same at each start, for the adapters are nothing without it.
    set_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LONGEST,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def main() -> None:
    """Train, from the newest proven checkpoint if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output_dir", help="a directory in a mount")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save-steps", type=int, default=50)
    options = parser.parse_args()

    texts = read_docstrings()
    tokenizer = make_tokenizer(texts)
    encoded = tokenizer(texts, truncation=True)["input_ids"]
    model = get_peft_model(
        make_model(tokenizer),
        LoraConfig(
            task_type="CAUSAL_LM",
            r=16,
            lora_alpha=32,
            target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
        ),
    )
    model.print_trainable_parameters()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=options.output_dir,
            max_steps=options.steps,
            per_device_train_batch_size=16,
            learning_rate=5e-3,
            logging_steps=10,
            save_steps=options.save_steps,
            save_total_limit=2,
            report_to="none",
        ),
        train_dataset=[{"input_ids": ids} for ids in encoded],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=[mountkit.CheckpointCallback(), mountkit.RunLogCallback()],
    )
    trainer.train(resume_from_checkpoint=mountkit.latest_checkpoint(options.output_dir))
    trainer.save_model(str(Path(options.output_dir) / "final"))


if __name__ == "__main__":
    main()
