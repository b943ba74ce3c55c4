"""Where to listen."""

from __future__ import annotations

import re

import pytest

from mountkit.config.address import Address


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "host", "port", "shown"),
        [
            ("9090", "127.0.0.1", 9090, "127.0.0.1:9090"),
            ("0", "127.0.0.1", 0, "127.0.0.1:0"),
            ("0.0.0.0:9090", "0.0.0.0", 9090, "0.0.0.0:9090"),
            ("localhost:65535", "localhost", 65535, "localhost:65535"),
            ("[::1]:80", "::1", 80, "[::1]:80"),
        ],
    )
    def test_where_to_listen(self, text, host, port, shown):
        address = Address.parse(text)
        assert address == Address(host, port)
        assert str(address) == shown
        assert Address.parse(shown) == address
        assert address.url == f"http://{shown}"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "not [HOST:]PORT"),
            ("host", "not [HOST:]PORT"),
            ("host:", "not [HOST:]PORT"),
            ("65536", "below 65536"),
            ("-1", "not [HOST:]PORT"),
            ("٣", "not [HOST:]PORT"),
            ("9090/metrics", "not [HOST:]PORT"),
            (":9090", "0.0.0.0:9090"),
            ("::1:9090", "[::1]:9090"),
        ],
    )
    def test_what_is_none(self, text, says):
        with pytest.raises(ValueError, match=re.escape(says)):
            Address.parse(text)
