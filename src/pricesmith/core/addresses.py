"""Addresses of databases and servers, shown without their passwords.

>>> mask_password("postgresql://ann:s3cret@db.example/shop?table=products")
'postgresql://ann:***@db.example/shop?table=products'
"""

from __future__ import annotations

import re

# From the first colon after the user's name to the last @: a password may hold signs that it should not.
USERINFO = re.compile(r"(?P<before>[A-Za-z][\w+.-]*:/{1,2}[^/@:\s]*):.*@", re.DOTALL)
OPTION = re.compile(r"(?P<before>[?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE)


def mask_password(address: str) -> str:
    """An address with `***` in place of its password; any other text as it is."""
    return OPTION.sub(r"\g<before>***", USERINFO.sub(r"\g<before>:***@", address))
