"""Content that Mountpoint refused, by its own log: a program may swallow the error.

Every line is of ``mountpoint-s3-fs`` (``fuse.rs``, ``fs.rs``, ``metablock/error.rs``), the same in
1.22 to 1.24. One that is not understood says nothing. What is refused without a loss of content is
not kept here: a file's mode, owner and times, a link to a file, a directory, a removal.

A line about an open file has its inode number and the last part of its path. The whole path is
known from what else the log told of that inode, such as the key that an open asked the store for,
or else stays unknown: it is never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime

from mountkit.backends.mountpoint.log_text import DEBUG, plain

ROOT_INODE = 1
#: Stands for a directory that the log does not tell.
SOMEWHERE = "..."
MISSING, TAKEN, INVALID, IO_ERROR = 2, 17, 22, 5

_FIELDS = r'(?:[^"}]|"(?:[^"\\]|\\.)*")*'
# The operation, its request's number and other fields, where in Mountpoint it is told, and what.
RECORD = re.compile(
    rf"^(\w+)\{{req=(\d+)({_FIELDS})\}}: mountpoint_s3_fs::([\w:]+): (.*)$", re.DOTALL
)
# The store is asked for a key on behalf of an operation.
ASKED = re.compile(
    rf"^(\w+)\{{req=\d+({_FIELDS})\}}:head_object\{{id=\d+ bucket=\S+ key={DEBUG}\}}: "
)
FIELD = re.compile(rf"(\w+)=(?:{DEBUG}|(\d+))")
FAILED = re.compile(r"^\w+ failed with errno (\d+): (.*)$", re.DOTALL)
INODE = re.compile(rf"inode (\d+) \(partial key {DEBUG}\)")
CREATED = re.compile(r"^new inode created ino=(\d+)")
STORED = re.compile(r"^put succeeded etag=\S+ key=(.*) \(bucket: [^)]*\) size=\d+\s*$", re.DOTALL)
COMPLETED = re.compile(r"upload already completed for key (.*) \(bucket: [^)]*\)\s*$", re.DOTALL)
RESIZED = re.compile(r"^fs:setattr with ino (\d+) .* size Some\((\d+)\)\s*$")
TIMES = re.compile(
    r"^fs:setattr with ino \d+ .*atime Some\(.*mtime Some\("
    r"(\d+-\d\d-\d\d) (\d+):(\d\d):(\d\d)(?:\.(\d+))? \+00:00:00\) size None\s*$"
)
RENAMING = re.compile(
    r"^rename on remote file will now be actioned "
    rf"src_key=\w+ \{{ key: {DEBUG}.*? dest_key={DEBUG}"
)

#: ``touch`` opens a file and sets its times at once, in this order or the other.
TOUCH_SECONDS = 1.0
#: It sets them to now. A copy sets those of its source, and may be added to at once.
NOW_SECONDS = 0.05

HINT = "write the file whole and once, or use --backend rclone"
CHANGED = f"a program opened it to add to it or change it, which Mountpoint refuses; {HINT}"
BUSY = "a program opened it to write it anew while another wrote it, which Mountpoint refuses"
READ = "a program opened it to write it anew while it was being read, which Mountpoint refuses"
SYNC = "a program opened it with O_SYNC, which Mountpoint refuses"
AFTER = f"a program wrote on after fsync, which ends a file on Mountpoint; {HINT}"


@dataclass(frozen=True, slots=True)
class Refused:
    """Content that was refused, and why.

    A later upload of the file takes its place, but only one that began after ``since``. That is 0
    for content that would have replaced all of the file: of two such, the last to end counts.
    ``source`` is where a rename was to take it from, ``who`` the inode and thread that opened it,
    and ``before`` what had been refused of this file by then. ``ino`` is the inode that was to be
    written; 0 for a rename.
    """

    at: float
    reason: str
    since: float = 0.0
    source: str = ""
    who: tuple[int, int] = (0, 0)
    ino: int = 0
    before: Refused | None = None


@dataclass(slots=True)
class _Daemon:
    """What is known of the inodes of one daemon; the next one counts anew."""

    paths: dict[int, str] = field(default_factory=dict)
    inodes: dict[str, int] = field(default_factory=dict)
    folders: dict[int, str] = field(default_factory=lambda: {ROOT_INODE: ""})
    made: dict[int, tuple[int, str]] = field(default_factory=dict)
    # By request: files that were opened to read and write, sizes to be set, renames.
    both: set[str] = field(default_factory=set)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    renames: dict[str, tuple[str, str]] = field(default_factory=dict)
    # By inode: the size that was set for a file while it was being written.
    promised: dict[int, int] = field(default_factory=dict)
    # By inode: when it was last opened to be written anew, which its upload may tell of later.
    opened: dict[int, float] = field(default_factory=dict)
    # The inodes of which something has been written, and the least size that was set after that.
    begun: set[int] = field(default_factory=set)
    cuts: dict[int, int] = field(default_factory=dict)
    # By inode and thread: when its times were set last, and nothing was opened with that yet.
    touched: dict[tuple[int, int], float] = field(default_factory=dict)
    # The inodes of files that were removed: what a program still writes to one, nobody waits for.
    unlinked: set[int] = field(default_factory=set)

    def unlink(self, path: str) -> None:
        """The file is not there any more, or another one is in its place."""
        if path in self.inodes:
            self.unlinked.add(self.inodes.pop(path))

    def rewritten(self, ino: int) -> None:
        """A file is written from its start, or its upload has ended: what was said is over."""
        self.promised.pop(ino, None)
        self.cuts.pop(ino, None)
        self.begun.discard(ino)


class Refusals:
    """What was refused and nothing has made good since, by path relative to the mount."""

    def __init__(self, top: str = "") -> None:
        self.found: dict[str, Refused] = {}
        self._top = top
        self._stored: dict[str, int] = {}
        self._removed: set[str] = set()
        self._daemon = _Daemon()

    def copy(self) -> Refusals:
        """What is known now, without what a reader of the log needs to go on."""
        copy = Refusals(self._top)
        copy.found = dict(self.found)
        return copy

    def began(self) -> None:
        """Another daemon: its inodes are others."""
        self._daemon = _Daemon()

    def stored(self, key: str, began: float, size: int, text: str, at: float) -> None:
        """The store has a file, of which the upload is told to have begun at that moment."""
        path = self._relative(key)
        self._stored[path] = size
        record = RECORD.match(text)
        ino = _number(record[3], "ino") if record else 0
        began = min(began, self._daemon.opened.get(ino, began))
        for refused, what in list(self.found.items()):
            if what.since < began and self._serves(path, ino, refused, what):
                del self.found[refused]
        if not ino:
            return
        self._learn(ino, path)
        promised, cut = self._daemon.promised.get(ino, 0), self._daemon.cuts.get(ino, size)
        self._daemon.rewritten(ino)
        if promised > size or cut < size:
            asked = cut if cut < size else promised
            reason = (
                f"a program set its size to {asked:,} bytes, which Mountpoint passes over: "
                f"the store has the {size:,} that were written"
            )
            self._keep(path, Refused(at, reason, since=at))

    def removed(self, key: str) -> None:
        """A file was removed through the mount: nobody waits for its content any more."""
        path = self._relative(key)
        self._stored.pop(path, None)
        self._removed.add(path)
        self._daemon.unlink(path)
        self.found.pop(path, None)
        for target, what in self.found.items():
            if what.source == path:
                reason = f"its rename from {path} was refused, and {path} was removed after that"
                self.found[target] = replace(what, reason=reason)

    def renamed(self, old: str, new: str) -> None:
        """A rename that Mountpoint did: what was there before is replaced."""
        old, new = self._relative(old), self._relative(new)
        self.found.pop(new, None)
        if old in self.found:
            self.found[new] = self.found.pop(old)
        if old in self._stored:
            self._stored[new] = self._stored.pop(old)
        self._daemon.unlink(new)
        if old in self._daemon.inodes:
            self._learn(self._daemon.inodes.pop(old), new)

    def take(self, at: float, text: str) -> None:
        """Take in one record of the log."""
        record = RECORD.match(text)
        if record is None:
            self._ask(text)
            return
        operation, request, fields, _, message = record.groups()
        failed = FAILED.match(message)
        if failed is None:
            self._note(at, operation, request, fields, message)
            return
        inode = INODE.search(message)
        if inode is not None and not inode[2].endswith("/"):
            self._learn(int(inode[1]), plain(inode[2]))
        if _number(fields, "ino") in self._daemon.unlinked:
            return
        number, words = int(failed[1]), failed[2].strip()
        match operation:
            case "open":
                self._open(at, request, fields, words)
            case "write":
                self._write(at, fields, words)
            case "setattr":
                self._resize(at, request, words)
            case "rename" if number not in {MISSING, TAKEN, INVALID}:
                self._rename(at, request, fields, words)
            case "mknod" if number == IO_ERROR:
                path = self._child(fields, "parent", "name")
                self._keep(path, Refused(at, f"it could not be made: {words}"))

    def _ask(self, text: str) -> None:
        """The store is asked for a file that is opened, or for a name in a directory."""
        asked = ASKED.match(text)
        if asked is None:
            return
        operation, fields, path = asked[1], asked[2], self._relative(plain(asked[3]))
        folder, _, name = path.rpartition("/")
        if operation == "open":
            self._learn(_number(fields, "ino"), path)
        elif operation in {"lookup", "mknod"} and _text(fields, "name") == name:
            directory = _number(fields, "ino" if operation == "lookup" else "parent")
            self._daemon.folders[directory] = folder

    def _note(self, at: float, operation: str, request: str, fields: str, message: str) -> None:
        """Something that did not fail, by which a failure may be understood later."""
        daemon = self._daemon
        if operation == "mknod" and (created := CREATED.match(message)):
            daemon.made[int(created[1])] = (_number(fields, "parent"), _text(fields, "name"))
        elif operation == "open" and message.startswith("open choosing read handle for O_RDWR"):
            daemon.both.add(request)
        elif operation == "open" and "new Write file handle created" in message:
            daemon.rewritten(_number(fields, "ino"))
            daemon.opened[_number(fields, "ino")] = at
        elif operation == "write":
            daemon.begun.add(_number(fields, "ino"))
        elif operation == "open":
            daemon.both.discard(request)
        elif operation == "setattr" and (resized := RESIZED.match(message)):
            ino, size = int(resized[1]), int(resized[2])
            daemon.sizes[request] = ino, size
            daemon.promised[ino] = size
            if ino in daemon.begun:
                daemon.cuts[ino] = min(size, daemon.cuts.get(ino, size))
        elif operation == "setattr" and (times := TIMES.match(message)):
            if abs(_moment(times) - at) < NOW_SECONDS:
                self._touch(at, _who(fields))
        elif operation == "setattr":
            # Its mode: a copy sets both, and what opens the file after that is another matter.
            daemon.touched.pop(_who(fields), None)
        elif operation == "rename" and (renaming := RENAMING.match(message)):
            daemon.renames[request] = plain(renaming[1]), plain(renaming[2])
        elif operation == "rename" and message.startswith("Rename completed"):
            daemon.renames.pop(request, None)

    def _touch(self, at: float, who: tuple[int, int]) -> None:
        """A program sets the times of a file, beside opening it: it writes nothing (touch).

        What it opens before or after that is another matter.
        """
        self._daemon.touched = {who: at}
        for path, what in list(self.found.items()):
            if what.who != who or at - what.at >= TOUCH_SECONDS:
                continue
            self._daemon.touched.clear()
            if what.before is None:
                del self.found[path]
            else:
                self.found[path] = what.before

    def _open(self, at: float, request: str, fields: str, words: str) -> None:
        both = request in self._daemon.both
        self._daemon.both.discard(request)
        who = _who(fields)
        if words.endswith("is not writable"):
            if at - self._daemon.touched.pop(who, 0.0) < TOUCH_SECONDS:
                return
            what = Refused(at, CHANGED, since=at, who=who)
        elif both and words.endswith("is not readable while being written"):
            what = Refused(at, CHANGED, since=at)
        elif words.endswith("is already being written"):
            what = Refused(at, BUSY)
        elif words.endswith("is not writable while being read"):
            what = Refused(at, READ)
        elif words.startswith("O_SYNC and O_DSYNC are not supported"):
            what = Refused(at, SYNC)
        elif "cannot open file for writing" in words or words.startswith("put failed to start"):
            what = Refused(at, f"it could not be opened for writing: {words}")
        else:
            # Of others it is not known whether anything was to be written.
            return
        self._keep(self._path(fields), replace(what, ino=_number(fields, "ino")))

    def _write(self, at: float, fields: str, words: str) -> None:
        completed = COMPLETED.search(words)
        if completed is not None:
            self._keep(self._relative(completed[1]), Refused(at, AFTER, since=at))
            return
        # Of a write that fails the bytes are lost, whatever the reason.
        changed = words.startswith("file handle is not open for writes")
        reason = CHANGED if changed else f"a write to it was refused: {words}"
        what = Refused(at, reason, since=at, ino=_number(fields, "ino"))
        self._keep(self._path(fields), what)

    def _resize(self, at: float, request: str, words: str) -> None:
        ino, size = self._daemon.sizes.pop(request, (0, 0))
        if not ino or not words.endswith("its attributes cannot be modified"):
            return
        self._daemon.rewritten(ino)
        path = self._daemon.paths.get(ino, "")
        if path and self._stored.get(path) != size:
            reason = f"a program set its size to {size:,} bytes, which Mountpoint refused; {HINT}"
            self._keep(path, Refused(at, reason))

    def _rename(self, at: float, request: str, fields: str, words: str) -> None:
        known = self._daemon.renames.pop(request, None)
        if known is not None:
            source, target = (self._relative(key) for key in known)
        else:
            source = self._child(fields, "parent", "name")
            target = self._child(fields, "newparent", "newname")
            same = _number(fields, "parent") == _number(fields, "newparent")
            inode = INODE.search(words)
            if inode is not None:
                source = plain(inode[2]).rstrip("/")
            if same and inode is not None:
                folder = source.rpartition("/")[0]
                target = f"{folder}/{_text(fields, 'newname')}".lstrip("/")
        reason = f"its rename from {source} was refused: its content is still there; {HINT}"
        self._keep(target, Refused(at, reason, source=source))

    def _keep(self, path: str, what: Refused) -> None:
        earlier = self.found.get(path)
        since = max(what.since, earlier.since if earlier else 0.0)
        before = replace(earlier, who=(0, 0), before=None) if earlier else None
        self.found[path] = replace(what, since=since, before=before)

    def _serves(self, stored: str, ino: int, refused: str, what: Refused) -> bool:
        """Whether a file that was stored may be the one that was refused, or one in it.

        Of a file in an unknown directory, only what is known to be that file: another of its name
        in another directory is none.
        """
        if not refused.startswith(f"{SOMEWHERE}/"):
            return stored == refused or stored.startswith(f"{refused}/")
        if refused.partition("/")[2] not in stored.split("/"):
            return False
        return not what.ino or what.ino == ino or stored in self._removed

    def _relative(self, key: str) -> str:
        return key.removeprefix(self._top)

    def _learn(self, ino: int, path: str) -> None:
        self._daemon.paths[ino] = path
        self._daemon.inodes[path] = ino
        parent, name = self._daemon.made.pop(ino, (0, ""))
        if parent and path.rpartition("/")[2] == name:
            self._daemon.folders[parent] = path.rpartition("/")[0]

    def _path(self, fields: str) -> str:
        """The path of the inode that a line is about."""
        ino = _number(fields, "ino")
        if ino in self._daemon.paths:
            return self._daemon.paths[ino]
        parent, name = self._daemon.made.get(ino, (0, ""))
        return self._join(parent, name or _text(fields, "name") or f"inode {ino}")

    def _child(self, fields: str, parent: str, name: str) -> str:
        return self._join(_number(fields, parent), _text(fields, name))

    def _join(self, parent: int, name: str) -> str:
        folder = self._daemon.folders.get(parent, SOMEWHERE)
        return f"{folder}/{name}" if folder else name


def _moment(times: re.Match[str]) -> float:
    day, hour, minute, second, fraction = times.groups()
    whole = datetime.fromisoformat(f"{day}T{int(hour):02}:{minute}:{second}+00:00")
    return whole.timestamp() + float(f"0.{fraction or 0}")


def _who(fields: str) -> tuple[int, int]:
    return _number(fields, "ino"), _number(fields, "pid")


def _number(fields: str, name: str) -> int:
    found = [match[3] for match in FIELD.finditer(fields) if match[1] == name]
    return int(found[-1] or 0) if found else 0


def _text(fields: str, name: str) -> str:
    found = [match[2] for match in FIELD.finditer(fields) if match[1] == name]
    return plain(found[-1] or "") if found else ""
