"""The search for better parameters: a typed space, methods that propose, trials that are not lost,
a winner to believe.
"""
