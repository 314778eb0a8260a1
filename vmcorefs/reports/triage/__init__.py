"""The pages that a report is made of."""
