"""One script a claim. Each alternates ours with what users do today in one run and prints `claim:
value (goal …) ok|short`.
"""
