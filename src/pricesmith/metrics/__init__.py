"""How good quotes are, as plain functions of arrays: metrics with a unit, intervals by group, error and
coverage by band.
"""
