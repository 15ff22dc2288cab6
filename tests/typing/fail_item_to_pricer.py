"""This program must not pass the type checker: a pricer would see the price."""

from pricesmith.core.types import Item, Listing, Pricer, Quote


def leak(pricer: Pricer, items: list[Item]) -> list[Quote]:
    return pricer.price(items)  # the one error


def fair(pricer: Pricer, listings: list[Listing]) -> list[Quote]:
    return pricer.price(listings)
