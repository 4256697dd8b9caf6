"""The two stores: `warehouse` mirrors the CRM and can be pulled anew, `ledger` must never forget."""
