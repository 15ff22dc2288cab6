"""Made things to test with, offline: goods with a known law of prices, tiny language models, the checks of a pricer.

>>> items, groups = made_items(3)
>>> items[0].listing.category in {"hose", "lamp", "drill", "chair"}
True
"""

from pricesmith.testing.chat_server import ChatServer
from pricesmith.testing.conformance import ODD_TEXTS, check_pricer, odd_listings
from pricesmith.testing.endpoint import FakeEndpoint
from pricesmith.testing.goods import BRANDS, GOODS, make_catalog, make_csv, make_items
from pricesmith.testing.language import make_model

__all__ = [
    "BRANDS",
    "GOODS",
    "ODD_TEXTS",
    "ChatServer",
    "FakeEndpoint",
    "check_pricer",
    "make_catalog",
    "make_csv",
    "make_items",
    "make_model",
    "odd_listings",
]

# Scripts of acceptance tests import these names.
made_csv, made_model = make_csv, make_model
