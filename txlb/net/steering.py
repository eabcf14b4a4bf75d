"""Steering: the kernel picks the worker of a client by the client's address, so that it is always the same.

Rules:

* A classic BPF program on the SO_REUSEPORT group answers with the index of the socket, that is of the worker:
  a hash of the source address alone, modulo the number of sockets. Ports do not count.
* One program for TCP and UDP, IPv4 and IPv6: it reads the IP header (`NET`), wherever the payload begins, and
  tells the versions apart by the header's first four bits.
* The hash spreads addresses that differ in a few bits only, and takes all four words of an IPv6 address in.
* The group is what control holds open: a crashed worker changes nothing, its sockets go to a sibling.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from typing import Final

from txlb.errors import ListenError

SO_ATTACH_REUSEPORT_CBPF: Final = 51
SO_DETACH_REUSEPORT_BPF: Final = 68
NET: Final = 0xFFF00000  # SKF_NET_OFF: loads count from the IP header

# Classic BPF, linux/bpf_common.h
LOAD_WORD: Final = 0x20  # A = the 32 bits at k
LOAD_BYTE: Final = 0x30  # A = the byte at k
AND: Final = 0x54
XOR_X: Final = 0xAC
MULTIPLY: Final = 0x24
SHIFT_RIGHT: Final = 0x74
MODULO: Final = 0x94
JUMP_EQUAL: Final = 0x15  # A == k: skip jt instructions, else jf
A_TO_X: Final = 0x07
RETURN_A: Final = 0x16

GOLDEN: Final = 0x9E3779B1  # Knuth's multiplicative hash: the high bits are the good ones

Instruction = tuple[int, int, int, int]  # code, jt, jf, k


def program(sockets: int) -> list[Instruction]:
    """Picks one of ``sockets`` by source address."""
    version_6: list[Instruction] = [
        (LOAD_WORD, 0, 0, NET + 8),
        (A_TO_X, 0, 0, 0),
        (LOAD_WORD, 0, 0, NET + 12),
        (XOR_X, 0, 0, 0),
        (MULTIPLY, 0, 0, GOLDEN),  # the halves are hashed one after the other: equal ones do not cancel out
        (A_TO_X, 0, 0, 0),
        (LOAD_WORD, 0, 0, NET + 16),
        (XOR_X, 0, 0, 0),
        (MULTIPLY, 0, 0, GOLDEN),
        (A_TO_X, 0, 0, 0),
        (LOAD_WORD, 0, 0, NET + 20),
        (XOR_X, 0, 0, 0),
        (JUMP_EQUAL, 1, 1, 0),  # either way past the load of version 4
    ]
    return [
        (LOAD_BYTE, 0, 0, NET),
        (AND, 0, 0, 0xF0),
        (JUMP_EQUAL, 0, len(version_6), 0x60),
        *version_6,
        (LOAD_WORD, 0, 0, NET + 12),
        (MULTIPLY, 0, 0, GOLDEN),
        (SHIFT_RIGHT, 0, 0, 16),
        (MODULO, 0, 0, sockets),
        (RETURN_A, 0, 0, 0),
    ]


def steer(group: list[socket.socket], by_client: bool) -> None:
    """Switch steering of this whole group on or off; `ListenError` if the kernel refuses."""
    if len(group) < 2:
        return
    try:
        if by_client:
            _attach(group[0], program(len(group)))
        else:
            _detach(group[0])
    except OSError as error:
        raise ListenError(
            f"steer: client: the kernel refuses the program on {group[0].getsockname()[0]}:"
            f"{group[0].getsockname()[1]}: {(error.strerror or str(error)).lower()}"
            " (it needs Linux 4.5 or newer; write steer: connection to do without)"
        ) from error


def _attach(sock: socket.socket, instructions: list[Instruction]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_program = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))  # struct sock_fprog
    _install(sock, filter_program, buffer)


def _install(sock: socket.socket, filter_program: bytes, buffer: object) -> None:
    """``buffer``, to which the program points, is an argument so that it lives: compiled code lets go of a
    local after its last use."""
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, filter_program)


def _detach(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:  # there was none
            raise
