"""A reader of both packets, written from PACKET.md alone: the standard library, and nothing of duch.

bare_packet.py reads packets in hexadecimal from stdin, one a line, and writes what they say as JSON, one a line.
"""

import json
import sys
import zlib


def opened(packet, magic):
    assert packet[:3] == magic + b"\x01", "magic or version"
    assert zlib.crc32(packet[:-4]) == int.from_bytes(packet[-4:], "little"), "CRC-32"
    return iter(packet[3:-4])


def number(rest):
    byte = next(rest)
    return byte if byte < 128 else byte - 128 + 128 * number(rest)


def numbers(rest, m):
    least, width = number(rest), next(rest)
    packed = [next(rest) for _ in range((m * width + 7) // 8)]
    bits = [byte >> place & 1 for byte in packed for place in range(7, -1, -1)]
    return [least + sum(bits[i * width + j] << (width - 1 - j) for j in range(width)) for i in range(m)]


def texts(rest):
    return [text.decode() for text in zlib.decompress(bytes(rest), wbits=-15).split(b"\xff")]


def query(packet):
    rest = opened(packet, b"DQ")
    n_bytes, content = next(rest), bytes(rest)
    assert len(content) == 8 + n_bytes, "length"
    return {"bundle": content[:8].hex(), "code": content[8:].hex(), "crc": packet[-4:].hex()}


def answer(packet):
    rest = opened(packet, b"DA")
    flags, crc = next(rest), bytes(next(rest) for _ in range(4)).hex()
    n, form, distances, names = number(rest), flags % 128, [], []
    if n:
        distances = [number(rest)]
        for step in numbers(rest, n - 1):
            distances.append(distances[-1] + step)
        if form == 1:
            number(rest)
            of_scene, unit = numbers(rest, n), number(rest)
            xs, ys, scenes = numbers(rest, n), numbers(rest, n), [text.rpartition("#") for text in texts(rest)]
            hits = [(*scenes[scene], unit * x, unit * y) for scene, x, y in zip(of_scene, xs, ys, strict=True)]
            names = [f"{scene}#{x},{y},{size}" for scene, _, size, x, y in hits]
        else:
            names = numbers(rest, n) if form == 2 else texts(rest)
    return {"crc": crc, "cut": flags >= 128, "distances": distances, "names": names}


if __name__ == "__main__":
    for line in sys.stdin:
        packet = bytes.fromhex(line)
        print(json.dumps(query(packet) if packet[:2] == b"DQ" else answer(packet)))
