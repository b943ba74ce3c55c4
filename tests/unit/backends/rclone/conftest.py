"""A server that speaks rclone's remote control, for each test that asks for one."""

from support.rclone_daemon import control, daemon

__all__ = ["control", "daemon"]
