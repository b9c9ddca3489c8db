"""The REST API: the same services and selectors as the pages. A token names its tenant; paths never do."""
