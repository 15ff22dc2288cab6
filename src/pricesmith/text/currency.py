"""Currencies: codes, signs, minor digits. The only table of currencies in the package.

CLDR's data (`currency_data`, generated) are extended by what shops write and CLDR lacks.

    >>> find_currencies("rp"), minor_digits("KWD"), display_sign("EUR")
    (('IDR',), 3, '€')

Standard library only: the process that parses untrusted files imports this module.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

from pricesmith.text.currency_data import CLDR, NAMES

CODES = frozenset(CLDR)
# Codes that are also words of column names.
ALSO_WORDS = frozenset(["ALL", "BAM", "CUP", "GEL", "MAD", "MOP", "PEN", "SOS", "TOP", "TRY"])
# A sign of several currencies means the first of these if the catalog's own currency does not use it.
PREFERRED = {
    "$": "USD CAD AUD NZD HKD SGD TWD MXN ARS CLP COP XCD BBD JMD TTD",
    "£": "GBP EGP FKP GIP SHP LBP",
    "¥": "JPY CNY",
    "rs": "INR PKR LKR NPR MUR",
    "kr": "SEK NOK DKK ISK",
    "元": "CNY TWD HKD",
    "br": "BYN ETB",
    "l": "HNL MDL",
    "k": "PGK",
}
# What shops write and CLDR's locales lack: abbreviations, other spellings, local scripts. `#` stands for the number
# beside a single letter; on its other side the letter is a unit, a size or a version.
SHOP_SIGNS = {
    "AED": "dhs dhs. dh dh. درهم",
    "ALL": "lek",
    "AMD": "դր. դրամ",
    "ARS": "ar$",
    "AUD": "au$ a$",
    "AZN": "man. manat",
    "BAM": "km",
    "BDT": "tk tk. টাকা",
    "BGN": "лв лв. lv lv.",
    "BHD": "bd b.d.",
    "BND": "b$",
    "BOB": "bs bs.",
    "BRL": "reais",
    "BYN": "руб руб. р.",
    "CAD": "c$ ca$",
    "CHF": "fr. sfr sfr. fr",
    "CLP": "clp$",
    "CNY": "rmb 元 人民币 cn¥ ￥",
    "COP": "col$",
    "CZK": "kč kčs kč. kc",
    "DKK": "kr kr.",
    "DOP": "rd$",
    "DZD": "دج",
    "EGP": "le l.e l.e. e£ جنيه",
    "EUR": "euro euros",
    "GEL": "ლარი",
    "GHS": "gh₵ ghc gh¢ ₵",
    "GTQ": "q#",
    "HKD": "hk$",
    "HNL": "lps lps.",
    "HRK": "kn",
    "HUF": "ft",
    "IDR": "rp rp.",
    "ILS": 'ש"ח שח nis',
    "INR": "rs rs. ₨ रु रु. रू",
    "IRR": "﷼ ریال",
    "ISK": "kr kr.",
    "JMD": "j$",
    "JOD": "jd j.d.",
    "JPY": "円",
    "KES": "ksh ksh. kshs kshs. kes.",
    "KRW": "원",
    "KWD": "kd k.d.",
    "KZT": "тг тг. тенге",
    "LAK": "ກີບ",
    "LKR": "rs rs. slrs",
    "LYD": "ld",
    "MAD": "dh dhs درهم",
    "MDL": "lei",
    "MKD": "ден ден. den.",
    "MMK": "ks kyat",
    "MNT": "төг төгрөг",
    "MUR": "rs rs.",
    "MXN": "mx$",
    "MYR": "rm",
    "NGN": "n#",
    "NOK": "kr kr.",
    "NPR": "rs rs. nrs रू रु",
    "NZD": "nz$",
    "OMR": "ro r.o.",
    "PEN": "s/ s/. s./",
    "PHP": "php₱ p#",
    "PKR": "rs rs. ₨",
    "PLN": "zł zl zł.",
    "PYG": "gs gs.",
    "QAR": "qr q.r. ريال",
    "RON": "lei leu",
    "RSD": "din din. дин дин.",
    "RUB": "руб руб. р. р ₽.",
    "SAR": "sr s.r. ريال ﷼ ⃁",
    "SEK": "kr kr. :-",
    "SGD": "s$",
    "THB": "บาท",
    "TND": "د.ت",
    "TRY": "tl",
    "TTD": "tt$",
    "TWD": "nt$ 元",
    "TZS": "tsh tshs",
    "UAH": "грн грн.",
    "UGX": "ush",
    "USD": "us$",
    "UYU": "$u",
    "UZS": "сум сўм so'm",
    "VES": "bs bs. bs.s",
    "VND": "đ vnđ đồng",
    "XAF": "fcfa cfa",
    "XCD": "ec$",
    "XOF": "fcfa cfa",
    "ZAR": "r#",
}
# How amounts are shown; other currencies go by their code.
DISPLAYED = {
    "USD": "$",
    "EUR": "€",
    "GBP": "£",
    "JPY": "¥",
    "INR": "₹",
    "CNY": "CN¥",
    "KRW": "₩",
    "BRL": "R$",
    "CHF": "CHF ",
}

# In texts of any catalog: symbols (Unicode category Sc), codes that are hardly ever anything else, words.
SYMBOLS = "$¢£¤¥֏؋৲৳૱௹฿៛₠-⃏﷼﹩＄￠￡￥￦"
MAJOR_CODES = "usd|eur|gbp"
TEXT_CODES = (
    "usd|eur|gbp|jpy|cny|rmb|inr|aud|nzd|chf|sek|nok|dkk|pln|czk|huf|rub|brl|mxn|krw|hkd|sgd|twd|zar|ils|thb|aed|sar"
)
MONEY_NAMES = (
    "dollars?|euros?|bucks|cents|rupees|yen|yuan|pence|quid|eurocents|pesos|zloty|kronor|kroner|zł|kč|руб|грн|円|元|원"
)
# The names of a catalog's own currency that are not weights or ordinary words.
OWN_NAMES = {
    "AED": "dirhams?",
    "BDT": "taka",
    "BHD": "dinars?",
    "HUF": "forints?",
    "IDR": "rupiahs?",
    "JOD": "dinars?",
    "KES": "shillings?",
    "KWD": "dinars?",
    "MAD": "dirhams?",
    "MYR": "ringgits?",
    "NGN": "naira",
    "OMR": "rials?",
    "PKR": "rupees?",
    "QAR": "riyals?",
    "RUB": "rubles?|roubles?|рубл[а-я]*",
    "SAR": "riyals?",
    "THB": "baht",
    "TND": "dinars?",
    "TRY": "liras?",
    "UAH": "hryvnias?|гривень|гривн[яі]",
    "VND": "dong|đồng",
    "ZAR": "rands?",
}
# Words for "price" before an amount, in the languages of a currency.
PRICE_WORDS = {
    "BRL": "preço|por apenas",
    "CHF": "uvp|preis|prix|prezzo",
    "CNY": "价格|售价|原价|现价",
    "CZK": "cena",
    "EUR": "uvp|pvp|preis|prix|prezzo|precio|prijs|preço|hinta",
    "IDR": "harga",
    "INR": "mrp|m\\.r\\.p\\.?",
    "JPY": "価格|定価",
    "KRW": "가격|정가",
    "LKR": "mrp",
    "MXN": "precio",
    "MYR": "harga",
    "NPR": "mrp",
    "PHP": "srp",
    "PKR": "mrp",
    "PLN": "cena",
    "RUB": "цена",
    "SEK": "pris",
    "TRY": "fiyatı|fiyat",
    "UAH": "ціна",
    "VND": "giá",
}
# Own signs that are also units, sizes or words: in texts they count only in the letter case in which shops write them,
# and before a number only with a space or cents.
DOUBTFUL_SIGNS = {
    "BAM": "KM|КМ",
    "BYN": "Br",
    "CDF": "FC",
    "DZD": "DA",
    "EGP": "LE|L\\.E\\.?",
    "ETB": "Br",
    "HRK": "kn",
    "HUF": "Ft",
    "LYD": "LD",
    "MMK": "Ks",
    "OMR": "RO|R\\.O\\.?",
    "PEN": "S/\\.?",
    "QAR": "QR",
    "SAR": "SR|S\\.R\\.?",
    "SCR": "SR",
    "SLE": "Le",
    "TRY": "TL",
}
SLASH_DASH = frozenset(["INR", "PKR", "LKR", "NPR", "BDT", "KES", "UGX", "TZS"])  # 599/- has no paise


def normalize_sign(sign: str) -> str:
    """A sign in lower case, without direction marks, its spaces plain."""
    visible = "".join(char for char in sign.lower() if unicodedata.category(char) != "Cf")
    return " ".join(visible.split())


@dataclass(frozen=True)
class Sign:
    """A sign of a currency; the number may stand `after` it, `before` it, or both."""

    text: str
    number_after: bool = True
    number_before: bool = True


@cache
def get_signs(code: str) -> tuple[Sign, ...]:
    """The signs of a currency in lower case; its code is not among them."""
    signs: dict[str, Sign] = {}
    shop = SHOP_SIGNS.get(code, "").split()
    for written in shop:
        text = normalize_sign(written.strip("#"))
        signs[text] = Sign(text, not written.startswith("#"), not written.endswith("#"))
    local = CLDR[code][2] if code in CLDR else ()
    # Abbreviations such as ر.س. are also written without the last dot.
    local = (*local, *(written[:-1] for written in local if written.count(".") > 1 and written.endswith(".")))
    for written in local:
        text = normalize_sign(written)
        # A single letter behind a number is a unit, a size or a version.
        signs.setdefault(text, Sign(text, True, len(text) > 1 or not text.isalpha() or not text.isascii()))
    for sign, codes in PREFERRED.items():
        if code in codes.split():
            signs.setdefault(sign, Sign(sign, True, len(sign) > 1 or not sign.isalpha()))
    return tuple(signs.values())


def build_meanings(*, behind: bool) -> dict[str, tuple[str, ...]]:
    """The currencies of each sign that stands before a number, or behind it."""
    codes_by_sign: dict[str, list[str]] = {}
    for code in sorted(CODES):
        for sign_of_code in get_signs(code):
            if sign_of_code.number_before if behind else sign_of_code.number_after:
                codes_by_sign.setdefault(sign_of_code.text, []).append(code)
    for text, preferred in PREFERRED.items():
        for sign in {text, f"{text}."} & codes_by_sign.keys():
            first = [code for code in preferred.split() if code in codes_by_sign[sign]]
            codes_by_sign[sign] = [*first, *(code for code in codes_by_sign[sign] if code not in first)]
    return {sign: tuple(codes) for sign, codes in codes_by_sign.items()}


BEFORE_NUMBER, BEHIND_NUMBER = build_meanings(behind=False), build_meanings(behind=True)


def find_currencies(sign: str, *, behind: bool = False) -> tuple[str, ...]:
    """The currencies that a sign or code may stand for; none if it is not money."""
    codes = (BEHIND_NUMBER if behind else BEFORE_NUMBER).get(sign)
    if codes:
        return codes
    code = sign.upper()
    return (code,) if code in CODES else ()


def minor_digits(currency: str) -> int:
    """Digits after the decimal mark: 2, but 0 for yen and 3 for Kuwaiti dinars."""
    row = CLDR.get(currency)
    return 2 if row is None else row[0]


def groups_by_dot(currency: str) -> bool:
    """Whether the decimal mark is a comma wherever the currency is used, so that a dot groups thousands."""
    return currency in CLDR and CLDR[currency][1] == ","


def display_sign(currency: str) -> str:
    """What stands before an amount that is shown."""
    return DISPLAYED.get(currency, f"{currency} ")


def currency_name(currency: str) -> str:
    """What amounts of a currency are called: `US dollars`; the code of one that CLDR does not know."""
    return NAMES.get(currency, currency)
