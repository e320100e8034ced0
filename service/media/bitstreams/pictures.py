"""The facts about a coded picture that planning needs, and who reads them for which codec."""

from __future__ import annotations

from typing import NamedTuple


class UnknownStructureError(Exception):
    """The stream does something whose effect on decoding cannot be told without decoding it."""


class UnknownOrderError(UnknownStructureError):
    """The order in which the frames are shown cannot be told without decoding them, though their number can."""


class CodedPicture(NamedTuple):
    """What one packet is to the others of its stream.

    Attributes:
        starts: A decoder that begins here gets this picture, and all that follow it in presentation, exactly.
        referenced: Later pictures may depend on it.
        shown: A frame comes out for it.
        has_leading: Pictures behind it may be shown before it; they are lost where decoding begins with it.
    """

    starts: bool
    referenced: bool
    shown: bool = True
    has_leading: bool = False


class ParameterSets:
    """Watches the headers that a decoder keeps from packet to packet, and tells where it has all of them.

    A stream whose headers change on the way is left to a plain decode. One that repeats the same headers, in every
    packet or in some, can be entered where they are complete.
    """

    def __init__(self, outside: frozenset[bytes]) -> None:
        """`outside`: the headers that the container gives to the decoder."""
        self._outside = outside
        self._inside: frozenset[bytes] | None = None

    def complete_in(self, headers: frozenset[bytes]) -> bool:
        """Take the headers of the next packet and tell whether a decoder may begin with it.

        Raises:
            UnknownStructureError: They differ from those before.
        """
        if not headers and self._inside is not None:
            return not self._inside
        own = headers - self._outside
        if self._inside is None:
            self._inside = own
        if own not in (frozenset(), self._inside) or (headers and not self._inside <= headers):
            raise UnknownStructureError("the stream's headers change on the way")
        return own == self._inside
