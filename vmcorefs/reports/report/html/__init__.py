"""The report as one HTML page that loads nothing: for a browser, for paper, to be mailed."""
