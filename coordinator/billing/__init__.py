"""The ledger, invoices, credits, payments and alerts, over the usage database."""
