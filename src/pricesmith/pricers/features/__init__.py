"""From listings to sparse features: `buffer` finds words, `bags` makes features, `vocabulary` keeps some. No torch.

Crucial CT16G52C42S5 16 GB     a title: its words and pairs, and the parts "ct", "16", "g", ... of its part numbers
speed: 5,5200                  a line with a key: "5" and "5200" count apart from other keys' 5 and 5200
modules: 1,16                  the second number of "modules" lies on its bucket of magnitude, 2^4
"""
