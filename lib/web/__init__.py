"""The site: runs, maps and classification in a browser, on this machine only."""
