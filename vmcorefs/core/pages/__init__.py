"""What each page was used for: the page array, struct page, dump levels."""
