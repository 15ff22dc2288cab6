"""From listings to features, without torch: `tokenizer` finds words, `hashing` makes sparse features of them, `tfidf`
those of the ridge, `trees` a table and the trees that are fitted on it. `retrieval` finds similar listings and makes
columns of their prices; `column_scale` standardizes columns.

Crucial CT16G52C42S5 16 GB     a title: its words and pairs, and the parts "ct", "16", "g", ... of its part numbers
speed: 5,5200                  a line with a key: "5" and "5200" are separate from other keys' 5 and 5200
modules: 1,16                  the second number of "modules" is in its bucket of magnitude, 2^4
"""
