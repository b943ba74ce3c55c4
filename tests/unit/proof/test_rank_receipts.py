"""The nodes of a training, each in a thread, and the bucket between them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mountkit.checkpoints.receipt import Layout, Receipt, name_of
from mountkit.config.timeouts import Limits
from mountkit.errors import NotDurableError
from mountkit.events import silent
from mountkit.proof.committer import Prover
from mountkit.proof.completeness import is_complete
from mountkit.proof.rank_receipts import Share, await_ranks
from support.fakes import FakeMount

LIMITS = Limits(stall=0.3, drain=20.0, repair=0.05)
TOP = "checkpoint-4"


class Nodes:
    """Two mounts of one bucket, and one rank on each."""

    def __init__(self, folder) -> None:
        self.mounts = []
        for rank in (0, 1):
            (folder / str(rank)).mkdir()
            mount = FakeMount(folder / str(rank))
            mount.begin()
            self.mounts.append(mount)
        self.mounts[1].bucket = self.mounts[0].bucket
        self.bucket = self.mounts[0].bucket
        self.share = Share(Layout(0, ((0,), (1,))), "ab-1")
        self.mounts[0].save(f"{TOP}/model")
        for rank, mount in enumerate(self.mounts):
            mount.save(f"{TOP}/rng_state_{rank}.pth", b"rng%d" % rank)

    def prove(self, rank: int, limits: Limits = LIMITS):
        mount = self.mounts[rank]
        files = [path.partition("/")[2] for path in mount.daemon.listed]
        layout = replace(self.share.layout, rank=rank)
        share = replace(self.share, layout=layout, stopped=self.share.stopped)
        return Prover(mount, "", limits, silent).prove(TOP, 4, files, share=share)

    def together(self, *ranks: int, limits: Limits = LIMITS):
        """The proofs of some nodes at a time: a manifest each, or an error."""
        with ThreadPoolExecutor(2) as pool:
            proofs = [pool.submit(self.prove, rank, limits) for rank in ranks]
            return [proof.exception() or proof.result() for proof in proofs]

    @property
    def keys(self) -> set[str]:
        return {key.partition(f"{TOP}/")[2] for key in self.bucket.objects}


@pytest.fixture
def nodes(tmp_path) -> Nodes:
    return Nodes(tmp_path)


@pytest.mark.fault(27)
def test_two_nodes_have_one_manifest_and_no_receipt_is_left(nodes):
    mine, other = nodes.together(0, 1)
    assert mine.files == other.files
    assert {entry.path for entry in mine.files} == {"model", "rng_state_0.pth", "rng_state_1.pth"}
    assert nodes.keys == {"mountkit-manifest.json", *(entry.path for entry in mine.files)}


@pytest.mark.fault(27)
def test_a_receipt_of_an_earlier_save_says_nothing(nodes):
    other = nodes.share
    nodes.share = replace(other, save="ab-0")
    nodes.mounts[1].save(f"{TOP}/rng_state_1.pth", b"older")
    nodes.share.stopped.set()
    assert isinstance(nodes.together(1)[0], NotDurableError)
    nodes.share = replace(other, stopped=threading.Event())
    nodes.mounts[1].save(f"{TOP}/rng_state_1.pth", b"new")
    mine, _ = nodes.together(0, 1)
    assert next(each for each in mine.files if "_1" in each.path).size == 3


@pytest.mark.fault(27)
def test_a_node_that_cannot_prove_its_files_tells_the_others_at_once(nodes):
    del nodes.bucket.objects[f"run/{TOP}/rng_state_1.pth"]
    began = time.monotonic()
    mine, other = nodes.together(0, 1)
    assert "the node of rank 1 cannot prove its files" in mine.message
    assert "rng_state_1.pth" in other.message
    assert "mountkit-manifest.json" not in nodes.keys
    # Nobody has waited for the limit of a whole drain.
    assert time.monotonic() - began < LIMITS.drain


@pytest.mark.fault(27)
def test_so_does_the_one_that_writes_the_manifest(nodes):
    nodes.bucket.objects[f"run/{TOP}/stranger"] = b"of nobody"
    mine, other = nodes.together(0, 1)
    assert f"{TOP}/stranger" in mine.message
    assert "the node of rank 0 cannot prove its files" in other.message
    assert "mountkit-manifest.json" not in nodes.keys


@pytest.mark.fault(27)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_node_that_never_answers_is_waited_for_within_the_limit_of_a_proof(nodes, rank):
    [error] = nodes.together(rank, limits=replace(LIMITS, drain=0.3))
    assert isinstance(error, NotDurableError)
    assert ("rank 1" if rank == 0 else "world rank 0") in error.message


@pytest.mark.fault(27, 39)
def test_a_receipt_that_cannot_be_trusted_is_none(nodes):
    key = f"run/{TOP}/{name_of(1)}"
    for data in (b"{", b'{"format": 9}', b"x" * 1000):
        nodes.bucket.objects[key] = data
        [error] = nodes.together(0, limits=replace(LIMITS, drain=0.2))
        assert isinstance(error, NotDurableError)
    # The right one, of the next save, replaces it.
    nodes.share = replace(nodes.share, save="ab-2")
    assert len(nodes.together(0, 1)[0].files) == 3


def test_whoever_ends_the_training_ends_the_wait(nodes):
    threading.Timer(0.1, nodes.share.stopped.set).start()
    [error] = nodes.together(0)
    assert isinstance(error, NotDurableError)


@pytest.mark.fault(27)
def test_the_ranks_of_a_node_are_waited_for_and_named(nodes):
    mount, share = nodes.mounts[0], Share(Layout(0, ((0, 1, 2),)), "ab-1")
    mount.directory.ranks.begin(TOP, "ab-1", [0, 1, 2], alone=True)
    mount.directory.ranks.done(TOP, "ab-1", 0)
    with pytest.raises(NotDurableError, match="rank 1, 2 did not say"):
        await_ranks(mount, TOP, share, LIMITS)
    for rank in (1, 2):
        mount.directory.ranks.done(TOP, "ab-1", rank)
    await_ranks(mount, TOP, share, LIMITS)
    with pytest.raises(NotDurableError, match="another save"):
        await_ranks(mount, TOP, replace(share, save="ab-0"), LIMITS)


@pytest.mark.fault(25, 27)
@pytest.mark.parametrize("alone", [True, False], ids=["one-node", "of-several"])
def test_the_drain_proves_what_all_ranks_have_saved_here_and_nothing_else(nodes, alone):
    mount = nodes.mounts[0]
    mount.save(f"{TOP}/trainer_state.json", b'{"global_step": 4}')

    def complete() -> bool:
        members = mount.daemon.files(TOP)
        return is_complete(mount, TOP, 4, members, ended_well=True, store=mount.store())

    assert complete()
    mount.directory.ranks.begin(TOP, "ab-1", [0, 1], alone=alone)
    mount.directory.ranks.done(TOP, "ab-1", 0)
    assert not complete()
    mount.directory.ranks.done(TOP, "ab-1", 1)
    assert complete() is alone


@pytest.mark.fault(27)
def test_where_no_save_was_marked_a_killed_rank_may_not_have_begun_its_file(nodes):
    mount = nodes.mounts[0]
    mount.save(f"{TOP}/trainer_state.json", b'{"global_step": 4}')

    def complete(*, well: bool) -> bool:
        members = mount.daemon.files(TOP)
        return is_complete(mount, TOP, 4, members, ended_well=well, store=mount.store())

    assert complete(well=True)
    assert not complete(well=False)
    del mount.daemon.listed[f"{TOP}/rng_state_0.pth"]
    assert complete(well=False)


@pytest.mark.fault(7)
def test_what_an_earlier_run_had_begun_to_save_is_over_once_all_of_it_is_saved_anew(nodes):
    mount = nodes.mounts[0]
    mount.directory.ranks.begin(TOP, "ab-1", [0], alone=True)
    mount.begin(time.time())
    for path in [*mount.daemon.listed, f"{TOP}/trainer_state.json"]:
        mount.save(path, b'{"global_step": 4}')

    def complete() -> bool:
        members = mount.daemon.files(TOP)
        return is_complete(mount, TOP, 4, members, ended_well=True, store=mount.store())

    assert complete()
    mount.directory.ranks.begin(TOP, "ab-2", [0], alone=True)
    assert not complete()
    mount.directory.ranks.done(TOP, "ab-2", 0)
    assert complete()


def test_a_receipt_is_no_file_of_a_checkpoint(nodes):
    data = Receipt(4, "ab-0", 7, (1,), 2, nodes.together(0, 1)[0].created).to_bytes()
    nodes.bucket.objects[f"run/{TOP}/{name_of(7)}"] = data
    mount = nodes.mounts[0]
    again = Prover(mount, "", LIMITS, silent).prove(TOP, 4, ["model", name_of(7)])
    assert [entry.path for entry in again.files] == ["model"]
