"""Where bytes come from: readers, credentials, quotas, faults."""
