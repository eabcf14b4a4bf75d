"""CRC32c (Castagnoli), the checksum of PROXY protocol v2.

Source: RFC 3720 §12.1 and appendix B.4 (its test vectors are ours). Cost: one table lookup per byte;
headers are a few hundred bytes at most.
"""

from __future__ import annotations

from typing import Final

POLYNOMIAL: Final = 0x82F63B78  # reflected


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """The checksum of ``data``."""
    table = TABLE
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
