"""How good quotes are, as plain functions of arrays: metrics with a unit, intervals by family, error and
coverage by band.
"""
