"""What columns are called in other languages than English: Portuguese, Spanish, French, German, Italian, Polish,
Turkish, Dutch and Japanese. Names are compared without case, spaces and signs (`columns.column_key`).

    >>> "preços" in LOCAL["price"].split(), currencies_of("Fiyatlar")
    (True, ('TRY',))

Only names that hardly mean anything else are here: a wrong guess is worse than a hint. `valor` and `Wert` are not.
"""

from __future__ import annotations

LOCAL = {
    "title": """produto produtos nomedoproduto nomeproduto título titulo
        producto productos nombre nombredelproducto nombreproducto artículo
        nomduproduit nomproduit produit produits désignation designation titre
        produktname artikelbezeichnung artikelname bezeichnung produktbezeichnung produkttitel produkt produkte
        nomeprodotto nomedelprodotto prodotto prodotti titolo
        nazwaproduktu nazwa produkty nazwatowaru
        ürünadı urunadi ürünadi ürünismi ürün urun ürünler
        productnaam artikelnaam
        商品名 製品名 品名 商品タイトル nom nome""",
    "text": """descrição descricao descriçãodoproduto descriçãocurta
        descripción descripcion descripcióndelproducto descripcióncorta
        descriptionduproduit descriptioncourte
        beschreibung produktbeschreibung artikelbeschreibung langbeschreibung kurzbeschreibung
        descrizione descrizioneprodotto
        opis opisproduktu pełnyopisproduktu pełnyopis
        açıklama aciklama açiklama ürünaçıklaması ürünaçiklamasi urunaciklamasi
        omschrijving productomschrijving
        商品説明 説明 商品詳細""",
    "price": """preço preços preco precos preçodevenda precodevenda preçovenda precovenda preçounitário preçonormal
        precio precios preciodeventa precioventa preciounitario preciofinal precionormal
        prix prixdevente prixttc prixunitaire prixactuel tarifrégulier
        preis preise verkaufspreis vkpreis bruttopreis preisbrutto preiseur regulärerpreis
        prezzo prezzi prezzodivendita prezzofinale
        cena ceny cenabrutto cenasprzedaży cenasprzedażybrutto cenasprzedażynetto cenaregularna
        fiyat fiyatlar fiyatı fiyati satışfiyatı satişfiyati satisfiyati ürünfiyatı ürünfiyati
        urunfiyati
        prijs verkoopprijs
        価格 販売価格 税込価格 値段""",
    "currency": "moeda moneda devise währung waehrung valuta waluta parabirimi 通貨",
    "category": """categoria categorias categoría categorías catégorie catégories kategorie kategorien warengruppe
        categorie kategoria kategorie kategori カテゴリ カテゴリー""",
    "brand": """marca marque marke hersteller fabricante fabricant produttore producent marka merk ブランド メーカー""",
    "id": """artikelnummer artikelnr referencia referência référence nrkatalogowy ürünkodu urunkodu codiceprodotto
        商品コード ugs""",
}
# The price words of a language that one or few currencies go with, for a note where no price names a currency.
CURRENCIES = {
    "preço": "BRL EUR",
    "preco": "BRL EUR",
    "precio": "EUR MXN COP ARS",
    "prix": "EUR CHF CAD",
    "preis": "EUR CHF",
    "prezzo": "EUR",
    "prezzi": "EUR",
    "cena": "PLN CZK",
    "ceny": "PLN CZK",
    "fiyat": "TRY",
    "prijs": "EUR",
    "価格": "JPY",
    "値段": "JPY",
}


def currencies_of(name: str) -> tuple[str, ...]:
    """The currencies that a price column's language suggests, the likeliest first; none for English."""
    return next(
        (tuple(codes.split()) for word, codes in CURRENCIES.items() if word in name.replace("İ", "i").casefold()), ()
    )
