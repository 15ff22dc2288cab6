"""Which asked prices are wrong: every price against what models that never saw it expect.

    audit_catalog(catalog, recipe).flagged

`pricesmith audit` calls this. Each listing is over, under or plausible, with a p-value, at a false discovery rate
(Benjamini & Hochberg). What the p-values assume: `pricers/asked_price.py`.
"""

from pricesmith.auditing.files import write_audit
from pricesmith.auditing.result import AuditResult
from pricesmith.auditing.run import AuditOptions, audit_catalog, audit_catalog_with_model, audit_file

__all__ = [
    "AuditOptions",
    "AuditResult",
    "audit_catalog",
    "audit_catalog_with_model",
    "audit_file",
    "write_audit",
]
