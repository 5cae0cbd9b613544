"""The site: runs, maps and classification in a browser, for people who do not write Python. Served
on this machine alone.
"""
