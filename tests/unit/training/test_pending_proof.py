"""The proof that is under way when another training begins."""

from __future__ import annotations

import os
import threading

from mountkit.training.pending_proof import PendingProof, settle_all


def test_whoever_begins_waits_for_it_and_is_told():
    held, told = threading.Event(), []
    proof = PendingProof()
    proof.begin("checkpoint-4", held.wait, 30)

    def tell(text: str) -> None:
        told.append(text)
        held.set()

    settle_all(tell)
    settle_all(tell)
    assert not proof.under_way
    assert [text for text in told if "checkpoint-4" in text] == [
        "the training waits until checkpoint-4 of the one before is proven"
    ]


def test_a_process_that_was_forked_meanwhile_has_no_thread_to_wait_for():
    held = threading.Event()
    proof = PendingProof()
    proof.begin("checkpoint-4", held.wait, 30)
    child = os.fork()
    if child == 0:
        settle_all(print)
        proof.finish()
        proof.begin("checkpoint-6", int)
        proof.finish()
        os._exit(0)
    held.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    proof.finish()
