"""The pure core: template language, matching, codecs and HTTP rules.

Nothing in here imports Django, Channels or Kafka, so all of it can be property-tested (and read) on its own.
"""
