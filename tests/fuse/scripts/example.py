"""An example, as ``python -m`` runs it, on one thread: a busy machine has no more."""

import runpy
import sys

import torch

torch.set_num_threads(1)
module = sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
