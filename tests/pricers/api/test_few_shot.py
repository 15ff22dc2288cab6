"""Which priced training listings an API model is shown: the nearest, never a copy of the question."""

from __future__ import annotations

from pathlib import Path

from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.types import Item, Listing, render
from pricesmith.pricers.api.few_shot import MAX_SHOWN_CHARS, ComparablesSelector
from pricesmith.testing import make_catalog, make_items, odd_listings
from pricesmith.text.prompts import format_whole_price

WORDS = "sturdy brass hose for the garden with two fittings and a reel of twenty five metres length"


def test_comparables_are_the_nearest_with_their_whole_prices_nearest_last() -> None:
    """As the search gives them, the nearest next to the question."""
    items, groups = make_items(400, seed=2)
    known = {item.listing.id: group for item, group in zip(items, groups, strict=True)}
    nearest = ComparablesSelector(items[40:], {**known}, 4)
    for listing, shown in zip(
        [item.listing for item in items[:10]], nearest.select([i.listing for i in items[:10]]), strict=True
    ):
        assert len(shown) == 4
        best = nearest.filter(listing, nearest.index.search([listing], 20)[0])[0]
        assert shown[-1] == (render(best.listing), format_whole_price(best.price))


def test_no_member_of_the_group_and_no_near_copy_is_shown() -> None:
    """Not by group, not by words, not itself; where the guard takes all that was found it looks further."""
    judged = Listing("judged", "Hose", WORDS)
    relatives = [Item(Listing(f"r{n}", f"Hose {n}", f"{WORDS} color {n}"), 20.0 + n) for n in range(60)]
    copies = [Item(Listing(f"c{n}", "Hose", f"{WORDS}  number {n}"), 90.0 + n) for n in range(30)]
    other = Item(Listing("other", "Hose", "a green garden hose of ten metres"), 12.0)
    groups = {"judged": "f", **{item.listing.id: "f" for item in relatives}}
    nearest = ComparablesSelector([*relatives, *copies, Item(judged, 33.0), other], groups, 3)
    assert nearest.select([judged])[0] == ((render(other.listing), 12),)


def test_one_of_each_group_is_shown() -> None:
    """The same item in another color is not a further example."""
    items, groups = make_items(600, seed=5)
    known = {item.listing.id: group for item, group in zip(items, groups, strict=True)}
    by_text = {render(item.listing): known[item.listing.id] for item in items}
    for shown in ComparablesSelector(items[30:], known, 6).select([item.listing for item in items[:30]]):
        names = [by_text[text] for text, _ in shown]
        assert len(set(names)) == len(names) == 6


def test_judged_items_of_a_catalog_never_see_their_relatives(tmp_path: Path) -> None:
    """On the made catalog no shown listing is of the judged one's group, also where the index holds all splits."""
    catalog = open_catalog(make_catalog(tmp_path / "shop", 1_000))
    everything = [item for split in ("train", "validation", "test") for item in catalog.items(split)]
    known: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        columns = catalog.columns(split, ("id", "group"))
        known.update(zip(columns["id"], columns["group"], strict=True))
    by_text = {render(item.listing): known[item.listing.id] for item in everything}
    listings = [item.listing for item in catalog.items("test")]
    for listing, shown in zip(listings, ComparablesSelector(everything, known, 5).select(listings), strict=True):
        assert len(shown) == 5
        assert known[listing.id] not in {by_text[text] for text, _ in shown}


def test_odd_listings_are_shown_and_judged_alike() -> None:
    """A megabyte of text is cut, half a surrogate pair is made sound, a text without words finds nothing."""
    items = [Item(listing, 5.0) for listing in odd_listings()]
    for shown in ComparablesSelector(items, {}, 2).select(odd_listings()):
        assert all(len(text) <= MAX_SHOWN_CHARS and text.encode() for text, _ in shown)
