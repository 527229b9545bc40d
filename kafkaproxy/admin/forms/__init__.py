"""What the forms of the admin are made of: fields, secrets, forms checked with their rows, warnings, and rules in words.

Imports the specs and the rules of routing.
"""
