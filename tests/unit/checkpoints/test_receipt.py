"""What a node says of its own files: kept, refused where it is hostile, and combined."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.checkpoints import receipt as receipts
from mountkit.checkpoints.manifest import FileEntry
from mountkit.checkpoints.receipt import Layout, Receipt
from mountkit.errors import NotDurableError, VerificationError
from mountkit.names import is_proof, receipt_name
from mountkit.store.base import ObjectInfo
from mountkit.store.checksums import digest_bytes

NOW = datetime(2026, 11, 27, tzinfo=UTC)
LAYOUT = Layout(0, ((0, 1), (2, 3)))


def entry(path: str, data: bytes = b"data") -> FileEntry:
    digest = digest_bytes(data)
    return FileEntry(path, len(data), digest.values["crc64nvme"], "mount", "crc64nvme", "tag")


def receipt(*files: FileEntry, node: int = 1, **more) -> Receipt:
    told = {"ranks": LAYOUT.nodes[node], "world": 4, "created": NOW, **more}
    return Receipt(step=4, save="ab12-3", node=node, files=files, **told)


def document(**changes) -> bytes:
    return json.dumps({**json.loads(receipt(entry("a")).to_bytes()), **changes}).encode()


class TestFormat:
    def test_it_is_frozen(self):
        told = json.loads(receipt(entry("sub/a")).to_bytes())
        assert told.keys() == {
            *("format", "step", "save", "node", "ranks", "world", "created", "epoch", "files"),
        }
        assert (told["format"], told["node"], told["ranks"], told["epoch"]) == (1, 1, [2, 3], 0)
        assert told["files"] == [
            {
                "path": "sub/a",
                "size": 4,
                "crc64nvme": entry("a").crc64nvme,
                "reference": "mount",
                "attested_by": "crc64nvme",
                "etag": "tag",
            }
        ]

    def test_what_is_written_is_read(self):
        told = receipt(entry("b"), entry("a"), problem="no", epoch=7)
        assert Receipt.from_bytes(told.to_bytes()) == told

    def test_a_key_of_a_later_one_is_passed_over_and_a_missing_epoch_is_the_first(self):
        told = json.loads(document(later=1))
        del told["epoch"]
        assert Receipt.from_bytes(json.dumps(told).encode()).epoch == 0

    @pytest.mark.fault(39)
    @pytest.mark.parametrize(
        "path",
        ["../a", "a/../../b", "/etc/passwd", "", "a//b", "./a", "a\0b", "mountkit-manifest.json",
         "mountkit-receipt-0.json", "sub/mountkit-manifest.json"],
    )  # fmt: skip
    def test_a_path_that_is_none_is_refused(self, path):
        item = json.loads(document())["files"][0]
        with pytest.raises(VerificationError):
            Receipt.from_bytes(document(files=[{**item, "path": path}]))

    @pytest.mark.parametrize(
        "changes",
        [
            {"format": 2},
            {"format": True},
            {"step": -1},
            {"step": 1 << 70},
            {"world": 10**300},
            {"ranks": []},
            {"ranks": [3, 2]},
            {"ranks": [2, 2]},
            {"ranks": [True, 2]},
            {"ranks": [2, 4]},
            {"ranks": [-1, 2]},
            {"node": "1"},
            {"epoch": "7"},
            {"epoch": -1},
            {"save": "../../x"},
            {"save": ""},
            {"created": "2026-11-27T00:00:00"},
            {"created": "yesterday"},
            {"files": {}},
            {"files": ["a"]},
        ],
        ids=str,
    )
    def test_nor_is_anything_else_that_no_node_writes(self, changes):
        with pytest.raises(VerificationError):
            Receipt.from_bytes(document(**changes))

    def test_nor_a_gigantic_file_nor_one_twice(self):
        item = json.loads(document())["files"][0]
        for files in ([{**item, "size": 1 << 60}], [item, item], [{**item, "size": -1}]):
            with pytest.raises(VerificationError):
                Receipt.from_bytes(document(files=files))

    @given(st.binary(max_size=200))
    def test_rubbish_is_refused_by_its_own_error(self, data):
        with pytest.raises(VerificationError):
            Receipt.from_bytes(data)

    def test_numbers_that_no_json_parser_takes_are_too(self):
        for data in (b'{"format": ' + b"9" * 5000 + b"}", b"[" * 100_000):
            with pytest.raises(VerificationError):
                Receipt.from_bytes(data)


class TestAnswers:
    def test_only_that_of_this_save_and_of_this_layout_counts(self):
        told = receipt(entry("a"))
        assert told.answers(LAYOUT, 4, "ab12-3")
        assert not told.answers(LAYOUT, 4, "ab12-2")
        assert not told.answers(LAYOUT, 5, "ab12-3")
        assert not told.answers(Layout(0, ((0, 1, 2), (3,))), 4, "ab12-3")
        assert not replace(told, node=9).answers(LAYOUT, 4, "ab12-3")

    def test_a_layout_says_who_proves_and_who_writes(self):
        seen = [replace(LAYOUT, rank=rank) for rank in range(4)]
        assert [each.first for each in seen] == [True, False, True, False]
        assert [each.leads for each in seen] == [True, False, False, False]
        assert [each.node for each in seen] == [0, 0, 1, 1]
        assert LAYOUT.world == 4


class TestCombine:
    def test_a_file_that_two_nodes_wrote_alike_is_there_once(self):
        both = [receipt(entry("same"), entry("a"), node=0), receipt(entry("same"), entry("b"))]
        assert [each.path for each in receipts.combine("top", both)] == ["a", "b", "same"]

    @pytest.mark.fault(28)
    def test_one_with_different_bytes_is_an_error_by_name(self):
        both = [receipt(entry("same"), node=0), receipt(entry("same", b"other"))]
        with pytest.raises(NotDurableError, match="top/same") as caught:
            receipts.combine("top", both)
        assert "save_on_each_node" in caught.value.hint

    @pytest.mark.fault(27)
    def test_a_rank_without_its_file_is_an_error_by_name(self):
        paths = {f"rng_state_{rank}.pth" for rank in (0, 1, 3)}
        with pytest.raises(NotDurableError, match=r"rng_state_2\.pth"):
            receipts.check_ranks("top", paths, LAYOUT, states=True)
        receipts.check_ranks("top", paths, LAYOUT, states=False)

    @pytest.mark.fault(29)
    def test_shards_without_their_metadata_are_none(self):
        paths = {"model_0/__0_0.distcp", "optimizer_0/__0_0.distcp", "model_0/.metadata"}
        with pytest.raises(NotDurableError, match=r"optimizer_0/\.metadata"):
            receipts.check_ranks("top", paths, LAYOUT, states=False)

    def test_the_store_has_what_is_said_and_nothing_else(self):
        def listed(*paths, size=4, tag="tag"):
            return {path: ObjectInfo(path, size, tag, NOW) for path in paths}

        own = listed("mountkit-receipt-1.json", "mountkit-manifest.json")
        receipts.check_listing("top", [entry("a")], {**listed("a"), **own})
        receipts.check_listing("top", [entry("a")], listed("a", "left"), ["left"])
        for there in (listed(), listed("a", size=5), listed("a", tag="other"), listed("a", "b")):
            with pytest.raises(NotDurableError):
                receipts.check_listing("top", [entry("a")], there)


def test_the_names_of_receipts_are_known_and_no_others():
    assert is_proof(f"checkpoint-4/{receipt_name(12)}")
    assert is_proof("mountkit-manifest.json")
    assert not is_proof("mountkit-receipt-x.json")
    assert not is_proof("mountkit-receipt-1.json.bak")
    assert not is_proof("checkpoint-4/mountkit-receipt-1.json/a")
