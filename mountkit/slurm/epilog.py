"""The Epilog of a node: it takes away what a job that was killed has left mounted. No I/O.

Slurm runs it as root when all processes of a job are gone. A mount whose daemon went with them
answers nobody: whatever walks over it, as a backup does, gets an error. mountkit itself needs no
Epilog: a run repairs what an earlier one has left at its target.
"""

from __future__ import annotations

#: A mount that hangs, with a daemon that lives, is somebody's else: the question has an end.
EPILOG = """\
#!/bin/bash
# Epilog of Slurm, made by `mountkit slurm --epilog`: takes away the mounts of mountkit that a job
# has left without a daemon. What waited for its upload stays in the cache of its user, and the next
# run of it on this machine uploads it.
[ -n "${SLURM_JOB_UID:-}" ] || exit 0
while read -r _ _ _ _ target rest; do
    case "$rest" in
        *" - fuse"*" mountkit-"* | *" - fuse"*" mountpoint-s3 "*) ;;
        *) continue ;;
    esac
    case ",${rest##* }," in
        *",user_id=$SLURM_JOB_UID,"*) ;;
        *) continue ;;
    esac
    target="$(printf '%b' "${target//\\\\/\\\\0}")"
    case "$(LC_ALL=C timeout 5 stat -- "$target" 2>&1)" in
        *"Transport endpoint is not connected"*)
            umount --lazy -- "$target" && echo "mountkit: $target had no daemon, and is unmounted"
            ;;
    esac
done < <(cat /proc/self/mountinfo)
exit 0
"""
