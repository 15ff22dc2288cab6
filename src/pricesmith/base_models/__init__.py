"""Choosing a base model: the open models there are, what fits in memory, how long tuning takes, how they tokenize.

facts = pricesmith.base_models.choose.choose_base(memory="24GB", purpose="train")
print(pricesmith.base_models.choose.format_choice(facts))
"""
