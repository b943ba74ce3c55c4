"""How rclone writes names (``lib/encoder``): in its own words, and in a store.

rclone takes a name in a mount for one in its *standard* encoding, in which the symbol for a tab
(U+2409) stands for a tab, the wide slash (U+FF0F) for a slash, and a quote (U+201B) before one of
them for the symbol itself. It decodes that, and encodes what comes out for the disk of its cache,
and for the key in the store. There only the null, the slash and the names of nothing but dots have
symbols, and the quote is doubled. So a name with one quote is stored, and listed from then on, as
one with two of them, and one with the symbol for a tab is stored with a real tab.
"""

from __future__ import annotations

QUOTE = "\u201b"
SLASH, FULLWIDTH_SLASH = "/", "\uff0f"
DELETE, DELETE_SYMBOL = "\x7f", "\u2421"
SYMBOLS = 0x2400
CONTROLS = 0x20

#: What stands for another character in the standard encoding; a null is the first symbol.
STANDARD = {
    **{chr(SYMBOLS + code): chr(code) for code in range(CONTROLS)},
    FULLWIDTH_SLASH: SLASH,
    DELETE_SYMBOL: DELETE,
}
#: The same, the other way round.
SYMBOL_OF = {character: symbol for symbol, character in STANDARD.items()}
SPECIAL = frozenset({QUOTE, *STANDARD, *SYMBOL_OF})
#: What the cache and the store write instead of a character.
STORED = {"\0": chr(SYMBOLS), SLASH: FULLWIDTH_SLASH}
DOTS = {"\uff0e": ".", "\uff0e\uff0e": ".."}
QUOTED_DOTS = {QUOTE + "\uff0e": "\uff0e", (QUOTE + "\uff0e") * 2: "\uff0e\uff0e"}


def stored(path: str) -> str:
    """The path in the cache, and the key in the store, of what rclone shows as ``path``."""
    return "/".join(_encoded(_decoded(name)) for name in path.split("/"))


def shown(path: str) -> str:
    """The path by which rclone knows what is stored as ``path``: the standard encoding of it."""
    return "/".join(_quoted(name) for name in path.split("/"))


def _quoted(name: str) -> str:
    if name in DOTS:
        return "".join(QUOTE + character for character in name)
    found = []
    for index, character in enumerate(name):
        special = character in STANDARD
        # Alone it is a character like any other.
        before = character == QUOTE and name[index + 1 : index + 2] in SPECIAL
        found.append(QUOTE if special or before else "")
        found.append(SYMBOL_OF.get(character, character))
    return "".join(found)


def _decoded(name: str) -> str:
    """A name in the standard encoding, as it really is."""
    whole = {**DOTS, **QUOTED_DOTS}.get(name)
    if whole is not None:
        return whole
    found, quoted = [], False
    for character in name:
        meant = STANDARD.get(character)
        if quoted:
            # Before anything else the quote is a character like any other.
            special = meant is not None or character == QUOTE
            found.append(character if special else QUOTE + character)
            quoted = False
        elif character == QUOTE:
            quoted = True
        else:
            found.append(character if meant is None else meant)
    return "".join(found) + (QUOTE if quoted else "")


def _encoded(name: str) -> str:
    """A name as it is stored; bytes that are not UTF-8 are left as they are."""
    for encoded, plain in (*DOTS.items(), *QUOTED_DOTS.items()):
        if name == plain:
            return encoded
    quoted = {QUOTE, *STORED.values()}
    return "".join(
        QUOTE + character if character in quoted else STORED.get(character, character)
        for character in name
    )
