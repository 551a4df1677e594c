"""What must never be lost: the campaign directory, the ledger, labels and datasets."""
