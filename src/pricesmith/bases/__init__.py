"""Choosing the base: which open models there are, what fits a box, how they write prices, what they know untuned.

facts = pricesmith.bases.choose.choose(memory="24GB", purpose="train")
print(pricesmith.bases.choose.told(facts))
"""
