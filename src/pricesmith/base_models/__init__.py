"""Choosing the base: which open models there are, what fits a box, how they write prices, what they know untuned.

facts = pricesmith.base_models.choose.choose_base(memory="24GB", purpose="train")
print(pricesmith.base_models.choose.format_choice(facts))
"""
