"""Test data and fakes, offline: goods with known prices, tiny language models, a fake API, checks for a pricer.

>>> items, groups = make_items(3)
>>> items[0].listing.category in {"hose", "lamp", "drill", "chair"}
True
"""

from pricesmith.testing.batch_server import FakeBatchServer
from pricesmith.testing.conformance import ODD_TEXTS, check_pricer, odd_listings
from pricesmith.testing.endpoint import ChatServer, FakeEndpoint
from pricesmith.testing.goods import BRANDS, GOODS, make_catalog, make_csv, make_encoder, make_items, make_model

__all__ = [
    "BRANDS",
    "GOODS",
    "ODD_TEXTS",
    "ChatServer",
    "FakeBatchServer",
    "FakeEndpoint",
    "check_pricer",
    "make_catalog",
    "make_csv",
    "make_encoder",
    "make_items",
    "make_model",
    "odd_listings",
]

# Scripts of acceptance tests import these names.
made_csv, made_model = make_csv, make_model
