"""What similar things cost: the nearest training listings by the words they share.

    index = Index.build(items)
    index.search([listing], 3)[0][0].title

Cosine of TF-IDF over single words, exact, by a sparse product; ties go to the smaller id. On disk: `index.npz` (arrays,
no pickle), `words.json` and `items.parquet` (id, title, price).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.errors import InputError
from pricesmith.types import Item, Listing, render

MAX_CHARS = 2_000  # the head of a long text says what it is
MAX_SHARE = 0.3  # a word in more of the listings than this tells none apart, and costs the most
BLOCK = 256
CELLS = 16_000_000  # of a block's product with all rows: 130 MB where every pair shares a word
TOKEN = r"(?u)\b\w+\b"


@dataclass(frozen=True, slots=True)
class Comparable:
    """A training listing like the one asked for. `similarity` is the cosine, from 0 to 1."""

    id: str
    title: str
    price: float
    similarity: float


class Index:
    """A search over training listings. Built once with the run, or loaded from its folder."""

    def __init__(self, words: Sequence[str], idf: Any, matrix: Any, ids: list[str], titles: list[str], prices: Any):
        self.words, self.idf, self.matrix = words, idf, matrix
        self.ids, self.titles, self.prices = ids, titles, prices
        self._reader: Any = None

    @classmethod
    def build(cls, items: Sequence[Item]) -> Index:
        """An index of items, sorted by id."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        items = sorted(items, key=lambda item: item.listing.id)
        texts = [head(item.listing) for item in items]
        reader = TfidfVectorizer(
            token_pattern=TOKEN, sublinear_tf=True, max_df=MAX_SHARE if len(items) > 100 else 1.0, dtype=np.float32
        )
        try:
            matrix = reader.fit_transform(texts).tocsr()
            words, idf = list(reader.get_feature_names_out()), reader.idf_
        except ValueError:  # no words at all
            from scipy.sparse import csr_matrix

            matrix, words, idf = csr_matrix((len(items), 1), dtype=np.float32), ["?"], np.ones(1)
        ids = [item.listing.id for item in items]
        titles = [(item.listing.title or item.listing.text)[:200] for item in items]
        return cls(words, idf.astype(np.float32), matrix, ids, titles, np.array([item.price for item in items]))

    def reader(self) -> Any:
        """The vectorizer that gives a text the vector of this index."""
        if self._reader is None:
            from sklearn.feature_extraction.text import TfidfVectorizer

            self._reader = TfidfVectorizer(
                token_pattern=TOKEN,
                sublinear_tf=True,
                vocabulary={word: place for place, word in enumerate(self.words)},
                dtype=np.float32,
            )
            self._reader.idf_ = self.idf
        return self._reader

    def search(self, listings: Sequence[Listing], k: int) -> list[list[Comparable]]:
        """The k nearest training listings of each, nearest first; fewer where there are fewer with a word in common."""
        found: list[list[Comparable]] = []
        if not self.ids:
            return [[] for _ in listings]
        size = max(1, min(BLOCK, CELLS // len(self.ids)))
        for start in range(0, len(listings), size):
            block = self.reader().transform([head(ware) for ware in listings[start : start + size]])
            product = (block @ self.matrix.T).tocsr()
            for row in range(product.shape[0]):
                begin, end = product.indptr[row], product.indptr[row + 1]
                found.append(self.best(product.indices[begin:end], product.data[begin:end], k))
        return found

    def best(self, places: Any, scores: Any, k: int) -> list[Comparable]:
        if len(scores) > k:
            # Rows are sorted by id, so the smaller place wins a tie; rounding makes near-ties ties on every machine.
            cut = np.partition(scores, len(scores) - k)[len(scores) - k] - 1e-5
            kept = scores >= cut
            places, scores = places[kept], scores[kept]
        order = np.lexsort((places, -np.round(scores, 5)))[:k]
        return [
            Comparable(self.ids[p], self.titles[p], float(self.prices[p]), min(1.0, round(float(s), 5)))
            for p, s in zip(places[order], scores[order], strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write the index into a folder, which is made."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder.mkdir(parents=True, exist_ok=True)
        data, indices, indptr = self.matrix.data, self.matrix.indices, self.matrix.indptr
        np.savez(folder / "index.npz", data=data, indices=indices, indptr=indptr, idf=self.idf)
        (folder / "words.json").write_text(json.dumps(list(self.words), ensure_ascii=False), encoding="utf-8")
        table = pa.table({"id": self.ids, "title": self.titles, "price": pa.array(self.prices, pa.float64())})
        pq.write_table(table, folder / "items.parquet")

    @classmethod
    def load(cls, folder: Path) -> Index:
        """An index from its folder. Raises InputError where it is damaged."""
        import pyarrow.parquet as pq
        from scipy.sparse import csr_matrix

        try:
            words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
            table = pq.read_table(folder / "items.parquet")
            with (folder / "index.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                parts = (arrays["data"], arrays["indices"], arrays["indptr"])
                matrix = csr_matrix(parts, shape=(table.num_rows, len(words)))
                idf = arrays["idf"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{folder} is damaged", got=str(error)[:200], hint="Fit the run again with --fresh."
            ) from None
        ids, titles = table.column("id").to_pylist(), table.column("title").to_pylist()
        return cls(words, idf, matrix, ids, titles, table.column("price").to_numpy())


def head(listing: Listing) -> str:
    """The part of a listing's text that is compared."""
    return render(listing)[:MAX_CHARS]
