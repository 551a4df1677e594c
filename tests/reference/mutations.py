"""What happens to files: cut, mixed, damaged, and all that malice could make of them."""

import random
import re
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random, bytes], bytes]

_NUMBER = re.compile(rb"-?\d+\.\d*(?:[eEdD][-+]?\d+)?|(?<![\w.])-?\d+(?![\w.])")


def _lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True) or [b""]


def _span(rng: random.Random, n: int, most: int = 40) -> tuple[int, int]:
    begin = rng.randrange(n)
    return begin, min(n, begin + 1 + rng.randrange(rng.choice((1, most))))


def _cut(content: bytes, rng: random.Random, other: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _beheaded(content: bytes, rng: random.Random, other: bytes) -> bytes:
    return content[rng.randrange(len(content) + 1) :]


def _without_lines(content: bytes, rng: random.Random, other: bytes) -> bytes:
    lines = _lines(content)
    begin, end = _span(rng, len(lines))
    return b"".join(lines[:begin] + lines[end:])


def _doubled_lines(content: bytes, rng: random.Random, other: bytes) -> bytes:
    lines = _lines(content)
    begin, end = _span(rng, len(lines))
    return b"".join(lines[:end] + lines[begin:])


def _swapped_lines(content: bytes, rng: random.Random, other: bytes) -> bytes:
    lines = _lines(content)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    if rng.random() < 0.5:
        j = min(len(lines) - 1, i + 1)
    lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def _moved_lines(content: bytes, rng: random.Random, other: bytes) -> bytes:
    lines = _lines(content)
    begin, end = _span(rng, len(lines))
    moved, rest = lines[begin:end], lines[:begin] + lines[end:]
    place = rng.randrange(len(rest) + 1)
    return b"".join(rest[:place] + moved + rest[place:])


def _lines_of_another(content: bytes, rng: random.Random, other: bytes) -> bytes:
    """The same lines of the output of another frame."""
    lines, foreign = _lines(content), _lines(other)
    begin, end = _span(rng, len(lines), 200)
    return b"".join(lines[:begin] + foreign[begin:end] + lines[end:])


def _end_of_another(content: bytes, rng: random.Random, other: bytes) -> bytes:
    place = rng.random()
    return content[: int(place * len(content))] + other[int(place * len(other)) :]


def _another(content: bytes, rng: random.Random, other: bytes) -> bytes:
    return rng.choice((other, content + other, other + content, content + content))


def _on_number(change: Callable[[bytes, random.Random], bytes]) -> Mutation:
    def mutate(content: bytes, rng: random.Random, other: bytes) -> bytes:
        # From somewhere on, so that not all of a large file is searched.
        found = _NUMBER.search(content, rng.randrange(len(content) + 1)) or _NUMBER.search(content)
        if found is None:
            return content
        return content[: found.start()] + change(found[0], rng) + content[found.end() :]

    return mutate


def _other_digit(number: bytes, rng: random.Random) -> bytes:
    places = [i for i, byte in enumerate(number) if chr(byte).isdigit()]
    i = rng.choice(places)
    return number[:i] + str(rng.randrange(10)).encode() + number[i + 1 :]


def _other_sign(number: bytes, rng: random.Random) -> bytes:
    return number[1:] if number.startswith(b"-") else b"-" + number


def _other_exponent(number: bytes, rng: random.Random) -> bytes:
    base = re.split(rb"[eEdD]", number)[0]
    return base + rng.choice((b"e%d", b"E+%02d", b"D%d", b"e-%d", b"+%d", b"-%d")) % rng.randrange(400)


def _no_number(number: bytes, rng: random.Random) -> bytes:
    words = (b"NaN", b"nan", b"Inf", b"-Infinity", b"*" * len(number), b"", b" ", b"1_000", b"0x1p3", b"--1", b"1,5")
    return rng.choice((*words, "١٢٣".encode(), b"9" * 5000, b"1e999", number[:-1], number + b"0", number * 2))


def _glued(content: bytes, rng: random.Random, other: bytes) -> bytes:
    """Numbers without a space between them, as Fortran prints them when they need more room."""
    place = content.find(b" -", rng.randrange(len(content) + 1))
    return content if place < 0 else content[:place] + content[place:].replace(b" -", b"-", rng.randrange(1, 4))


def _flipped_bytes(content: bytes, rng: random.Random, other: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 30))):
        if damaged:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _zeroed(content: bytes, rng: random.Random, other: bytes) -> bytes:
    """A block that never reached the disk."""
    begin = rng.randrange(len(content) + 1)
    return content[:begin] + b"\0" * min(rng.choice((1, 512, 4096)), len(content) - begin) + content[begin + 4096 :]


def _inserted(content: bytes, rng: random.Random, other: bytes) -> bytes:
    place = rng.randrange(len(content) + 1)
    junk = rng.choice((
        b"\0", b"\r", b"\n", b" ", b"\t", b"\xff\xfe", b"\x1b[31m", b"x" * 100_000, b"\n" * 10_000, b" 1.0" * 30_000,
        b"<a>" * 20_000, b"<a>" * 2_000 + b"</a>" * 2_000, b"&lol9;", b"<!-- ", b"<![CDATA[", b"]]>",
        b"mpirun noticed\n", b"(" * 10_000, b"=" * 10_000,
    ))  # fmt: skip
    return content[:place] + junk + content[place:]


def _other_newlines(content: bytes, rng: random.Random, other: bytes) -> bytes:
    return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b" \n", b"")))


def _other_spaces(content: bytes, rng: random.Random, other: bytes) -> bytes:
    place = rng.randrange(len(content) + 1)
    return (
        content[:place]
        + re.sub(rb" +", rng.choice((b" ", b"  ", b"\t", b"")), content[place : place + 300])
        + (content[place + 300 :])
    )


def _bomb(content: bytes, rng: random.Random, other: bytes) -> bytes:
    """Entities that grow tenfold with each level, or name a file."""
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    kinds = (f'<!DOCTYPE b [<!ENTITY l0 "lol">{entities}]>', '<!DOCTYPE b [<!ENTITY l9 SYSTEM "file:///dev/zero">]>')
    head = rng.choice(kinds).encode()
    end = content.find(b"?>") + 2
    return content[:end] + head + re.sub(rb"<(etot|a1)>[^<]*", rb"<\1>&l9;", content[end:])


#: Each by its name; how often it is chosen is the same for all.
MUTATIONS: dict[str, Mutation] = {
    "cut": _cut,
    "beheaded": _beheaded,
    "lines removed": _without_lines,
    "lines doubled": _doubled_lines,
    "lines swapped": _swapped_lines,
    "lines moved": _moved_lines,
    "lines of another frame": _lines_of_another,
    "end of another frame": _end_of_another,
    "another frame": _another,
    "digit changed": _on_number(_other_digit),
    "sign changed": _on_number(_other_sign),
    "exponent changed": _on_number(_other_exponent),
    "no number": _on_number(_no_number),
    "numbers glued": _glued,
    "bytes flipped": _flipped_bytes,
    "block of zeros": _zeroed,
    "junk inserted": _inserted,
    "newlines": _other_newlines,
    "spaces": _other_spaces,
    "entity bomb": _bomb,
}
