"""Watching a champion: has the data moved, what does it cost, what is to be done.

drift        the window against the reference: one decision with a stated false-alarm rate
performance  accuracy without labels, and from the labels there are
policy       pure: the figures to a decision
report       the page a person looks at; the only importer of evidently
"""
